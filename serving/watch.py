"""What a replica does beside answering: take up new plans, and say what it counted."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from data_contracts.rollout_store import Report, RolloutStore
from serving import memory
from serving.predict import Predictor

_log = logging.getLogger(__name__)


class Watch:
    """Looks for a plan, and reports, every `every_s` seconds until it is closed; at once when a
    breaker opens, so that a bad candidate is out sooner, and when a candidate is there.

    `counts`: what a report says of all that comes before and beside the model.
    """

    def __init__(
        self,
        predictor: Predictor,
        counts: Callable[[], Mapping[str, Any]],
        store: RolloutStore,
        name: str,
        boot: str,
        every_s: float,
    ) -> None:
        self._predictor = predictor
        self._counts = counts
        self._store = store
        self._name, self._boot = name, boot
        self._every_s = every_s
        self._beat = 0
        self._ended = False
        self._spent = time.process_time(), time.monotonic()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop, with a last report."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._ended = True
        await self._report()

    async def once(self) -> None:
        """Take up a later plan if there is one, begin a look at the dimensions, and report."""
        await self._predictor.arms.look()
        self._predictor.dimensions.refresh()
        await self._report()

    async def _run(self) -> None:
        while True:
            await self.once()
            news = self._predictor.arms.news
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await news.wait()
            news.clear()

    async def _report(self) -> None:
        self._beat += 1
        try:
            # The kernel walks a process's pages to say which are its own: milliseconds.
            held = await asyncio.to_thread(self._memory)
            report = Report(self._name, self._boot, self._beat, {**self._said(), "memory": held})
            await asyncio.to_thread(self._store.report, report)
        except Exception:
            # Answers go on, and so do looks for a plan; the counts are cumulative, so the next
            # report makes up for this one.
            _log.exception("rollout: the replica's report was not taken")

    def _said(self) -> dict[str, Any]:
        predictor = self._predictor
        arms, shadow = predictor.arms, predictor.shadow
        tallies = {
            step: {arm: tally.as_dict() for arm, tally in each.items()}
            for step, each in predictor.tallies.items()
        }
        return {
            "at": time.time(),
            "every_s": self._every_s,
            "ended": self._ended,
            "epoch": arms.taken_up,
            "champion": arms.now.champion.bundle.version,
            "busy": self._busy(),
            "broken": dict(arms.broken()),
            "tallies": tallies,
            "totals": {arm: tally.as_dict() for arm, tally in predictor.totals.items()},
            "answered": predictor.answered,
            "spent_ms": dict(predictor.spent_ms),
            "log_failures": predictor.lost.total(),
            "lost": dict(predictor.lost),
            "log_refuses": predictor.log.refuses,
            "feature_failures": arms.feature_failures,
            "answers_by_defaults": predictor.by_defaults,
            "plan_failures": arms.plan_failures,
            "rule_failures": predictor.choices.failures,
            "shadow_scored": shadow.scored,
            "shadow_dropped": shadow.dropped,
            **self._counts(),
        }

    def _memory(self) -> dict[str, int | None]:
        """Bytes that this process holds, that its candidate's process, a fork, has for itself, and
        what is left for more."""
        candidate = self._predictor.arms.now.candidate
        engine = candidate.engine if candidate is not None else None
        theirs = memory.own(engine.pid) if engine is not None else 0
        return {"own": memory.held(os.getpid()), "candidate": theirs, "left": memory.left()}

    def _busy(self) -> float:
        """Processors that this process kept busy since the last report."""
        spent, now = time.process_time(), time.monotonic()
        before, then = self._spent
        self._spent = spent, now
        return round((spent - before) / max(now - then, 1e-9), 3)
