"""Copies of answered requests, scored by the candidate in blocks, off the path of the answers."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_contracts.encoding import encode_dense, encode_ids
from data_contracts.predictions import PredictionLog
from data_contracts.rollout import bucket
from data_contracts.use_case import UseCase
from serving.arms import Arm, Snapshot
from serving.scorer import MAX_ROWS

_log = logging.getLogger(__name__)

BLOCK = 64
"""Requests that are scored at once."""
EVERY_S = 0.2
"""How long the first of a block waits for others."""
MOST = 2**15
"""Rows that wait at most; requests with more of them are dropped, and counted."""
_WITHIN_S = 5.0
"""For the features of a block, and as long again for its scores."""

Encoded = tuple[np.ndarray, np.ndarray]
"""ids int64[rows, C] and dense float32[rows, D]."""


@dataclass(frozen=True)
class Copy:
    """An answered request, as the candidate shall score it."""

    snapshot: Snapshot
    arm: Arm
    request_id: str
    prediction_ids: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    q: int


class Shadow:
    """Scores copies and logs what the candidate said of them, by the ids of the predictions."""

    def __init__(self, use_case: UseCase, log: PredictionLog) -> None:
        self._use_case = use_case
        self._log = log
        self._waiting: list[tuple[Copy, Encoded | None]] = []
        self._rows = 0
        """Of all that wait."""
        self._full = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None
        self.scored = 0
        """Requests of which a copy was scored."""
        self.dropped = 0
        """Requests whose copy was not: too many waited, its features could not be read, the
        candidate failed, or the log took no record."""

    def offer(self, copy: Copy, encoded: Encoded | None) -> None:
        """Take a copy if the plan mirrors its request; `encoded` where the candidate takes the same
        features as the champion."""
        if bucket("shadow", copy.request_id) >= copy.snapshot.plan.shadow_bps:
            return
        if self._rows + len(copy.rows) > MOST:
            self.dropped += 1
            return
        self._rows += len(copy.rows)
        self._waiting.append((copy, encoded))
        if len(self._waiting) >= BLOCK:
            self._full.set()
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())

    async def close(self) -> None:
        """Score what waits."""
        self._full.set()
        if self._flusher is not None:
            await self._flusher

    async def _flush(self) -> None:
        while self._waiting:
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._full.wait()
            except TimeoutError:
                pass
            self._full.clear()
            first = self._waiting[0][0].arm
            block: list[tuple[Copy, Encoded | None]] = []
            others: list[tuple[Copy, Encoded | None]] = []
            for each in self._waiting:
                own = each[0].arm is first and len(block) < BLOCK
                (block if own else others).append(each)
            self._waiting = others
            self._rows -= sum(len(copy.rows) for copy, _ in block)
            if len(self._waiting) >= BLOCK:
                self._full.set()
            await self._score(first, block)

    async def _score(self, arm: Arm, block: list[tuple[Copy, Encoded | None]]) -> None:
        snapshot = block[0][0].snapshot
        candidate = snapshot.candidate
        assert candidate is not None
        until = time.monotonic() + _WITHIN_S
        found = await asyncio.gather(*(self._encoded(*each, until) for each in block))
        read = [(each[0], rows) for each, rows in zip(block, found, strict=True) if rows]
        self.dropped += len(block) - len(read)
        if not read:
            return
        try:
            ids = np.concatenate([ids for _, (ids, _) in read])
            dense = np.concatenate([dense for _, (_, dense) in read])
            # In parts: a call that takes long is taken for one that hangs.
            until, ends = time.monotonic() + _WITHIN_S, range(MAX_ROWS, len(ids), MAX_ROWS)
            parts = zip(np.split(ids, ends), np.split(dense, ends), strict=True)
            scored = [await arm.scorer.score(*part, until) for part in parts]
            scores = np.concatenate([part.values for part in scored])
        except Exception as error:
            # A candidate may fail in any way here; its copies are lost and nobody waits for them.
            self.dropped += len(read)
            if candidate.breaker.reason is None:
                _log.exception("rollout: version %s scored no copies", arm.bundle.version)
            late = isinstance(error, TimeoutError)
            candidate.breaker.failed(str(error) or type(error).__name__, fatal=not late)
            return
        candidate.breaker.answered(ids, dense, scores)
        said = {
            "version": arm.bundle.version,
            "bundle": arm.bundle.digest,
            "release": snapshot.plan.release,
            "prediction_ids": [i for copy, _ in read for i in copy.prediction_ids],
            "scores": scores.tolist(),
        }
        refused = self._log.refuses
        try:
            self._log.append({"shadow": said})
        except OSError:
            # A full disk is not the candidate's fault.
            self.dropped += len(read)
            if not refused:
                _log.exception("prediction log: %d copies are not recorded", len(read))
        else:
            self.scored += len(read)

    async def _encoded(self, copy: Copy, encoded: Encoded | None, until: float) -> Encoded | None:
        """What the candidate takes; None where its features cannot be read, which is not its
        fault: by defaults it would be judged for the store."""
        if encoded is not None:
            return encoded
        keys = [{name: row[name] for name in self._use_case.entities} for row in copy.rows]
        try:
            served = await copy.arm.reader.within(keys, copy.q, until)
            if served.store_failed:
                return None
            spec = self._use_case.model
            ids = encode_ids(spec.categorical, copy.rows, [served.q] * len(copy.rows))
            return ids, encode_dense(spec.numeric, copy.rows, served.values)
        except Exception:
            _log.exception("rollout: a copy for version %s has no inputs", copy.arm.bundle.version)
            return None
