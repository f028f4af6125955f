"""A release around a running server, led by the benchmark: it writes the plans, renews the lease.

The controller is a process of its own that no request meets; without it no gate ends what is to be
measured. Everything else is the server's: replicas poll, copy, assign, tally and report.
"""

import json
import secrets
import shutil
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from data_contracts.bundle import MANIFEST, open_bundle, seal
from data_contracts.lake import Lake
from data_contracts.rollout import Plan, Target, advanced, began, ended
from data_contracts.rollout_store import Report, RolloutStore
from data_contracts.tally import Tally

Phase = Literal["steady", "shadow", "canary"]
CANARY_BPS = 500
_PATIENCE_S = 60.0


class NotMeasured(RuntimeError):
    """The release was not what it had to be while the server was measured."""


def copied(lake: Lake, champion: Target, root: Path) -> Target:
    """Give `root` the use case's online store and the champion's bundle, and return a second
    version of the same graph that may be released there."""
    other = Lake(root, lake.use_case)
    shutil.copytree(lake.online, other.online)
    shutil.copytree(lake.bundles / champion.digest, other.bundles / champion.digest)
    part = other.bundles / "second"
    shutil.copytree(other.bundles / champion.digest, part)
    said = asdict(open_bundle(part, champion.digest))
    (part / MANIFEST).unlink()
    said = {k: v for k, v in said.items() if k not in ("members", "format")}
    manifest = seal(part, {**said, "metrics": {"copy_of": champion.version}})
    part.rename(other.bundles / manifest.digest())
    RolloutStore(other.rollouts, lake.use_case).add(Plan(1, champion))
    return Target("second", manifest.digest())


class Led:
    """The release of `second` on a server that serves `lake` and is not yet started."""

    def __init__(self, lake: Lake, second: Target) -> None:
        self._store = RolloutStore(lake.rollouts, lake.use_case)
        self._second = second
        self._holder = secrets.token_hex(6)
        self._earlier = {report.boot for report in self._store.reports()}
        self._ends = threading.Event()

    @contextmanager
    def leading(self) -> Generator[None]:
        """Hold the lease meanwhile, and leave no release behind."""
        if not self._store.take(self._holder, self._store.beat()):
            raise NotMeasured("another controller holds the lease")
        thread = threading.Thread(target=self._renew)
        thread.start()
        try:
            yield
        finally:
            self._ends.set()
            thread.join()
            if self._plan().candidate is not None:
                self._store.add(ended(self._plan()))

    @contextmanager
    def during(self, phase: Phase) -> Generator[dict[str, float]]:
        """A phase of the release, from when the replica has taken it up.

        Yields what is filled at its end: the share of the candidate's requests that it scored, in
        the shadow of the copies. NotMeasured where that is none.
        """
        plan = self._plan()
        if plan.candidate is not None and phase != "canary":
            plan = self._store.add(ended(plan))
        if phase != "steady" and plan.candidate is None:
            plan = self._store.add(began(plan, self._second, {}))
        if phase == "canary":
            plan = self._store.add(advanced(plan, (CANARY_BPS,)))
        before = self._reported(plan, after=0)
        told: dict[str, float] = {}
        yield told
        found = self._reported(plan, after=before.beat + 1)
        if found.body["broken"]:
            raise NotMeasured(f"the breaker opened: {json.dumps(found.body['broken'])}")
        if phase == "steady":
            return
        scored, missed = _done(found, plan) if phase == "canary" else _copies(before, found)
        if not scored:
            raise NotMeasured(f"{phase}: the candidate scored nothing")
        told["scored"] = round(scored / (scored + missed), 4)

    def _plan(self) -> Plan:
        plan = self._store.plan()
        assert plan is not None
        return plan

    def _renew(self) -> None:
        while not self._ends.wait(0.5):
            self._store.renew(self._holder)

    def _reported(self, plan: Plan, after: int) -> Report:
        """What the server's replica says once it has taken the plan up."""
        pause, end = threading.Event(), time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            for told in self._store.reports():
                new = told.boot not in self._earlier and told.beat > after
                if new and told.body["epoch"] == plan.epoch:
                    return told
            pause.wait(0.1)
        raise NotMeasured(f"no replica took up plan {plan.epoch} within {_PATIENCE_S:g} s")


def _copies(before: Report, after: Report) -> tuple[int, int]:
    """(requests of which a copy was scored, of which none was)."""
    scored, dropped = (
        int(after.body[name] - before.body[name]) for name in ("shadow_scored", "shadow_dropped")
    )
    return scored, dropped


def _done(report: Report, plan: Plan) -> tuple[int, int]:
    """(requests of its arm that the candidate answered, that it left to the champion)."""
    counted = report.body["tallies"].get(plan.step, {}).get("candidate")
    tally = Tally.from_dict(counted) if counted else Tally()
    return tally.own_answers, tally.requests - tally.own_answers
