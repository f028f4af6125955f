"""The model: an ONNX Runtime session behind the input boundary, and a batcher without a timer."""

# onnxruntime ships no types:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
import heapq
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnxruntime as ort

from data_contracts.bundle import GRAPH, BundleRefused, check_golden, check_inputs, golden_rows
from serving.loader import Bundle

MAX_ROWS = 256
"""Rows scored in one run; a larger request is a run of its own."""


class ScoreFailed(RuntimeError):
    """The model gave something that is no probability."""


@dataclass(frozen=True)
class Scores:
    """Scores of one request and where its time went."""

    values: np.ndarray
    """float64[rows] in [0, 1]."""
    queue_ms: float
    model_ms: float


@dataclass(frozen=True)
class _Waiting:
    ids: np.ndarray
    dense: np.ndarray
    since: float
    done: asyncio.Future[Scores]


class Model:
    """A verified bundle's graph, ready to run; its golden rows have been checked."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self.bundle = bundle
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # As bytes: the engine then reads no other file that the graph may name.
        graph = bundle.graph.read_bytes()
        try:
            self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BundleRefused(f"{GRAPH}: the engine cannot load it: {error}") from error
        self._check_golden()

    def run(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """float64[rows] scores of `ids` int64[rows, C] and `dense` float32[rows, D].

        Raises BundleRefused for inputs that the graph must not see, ScoreFailed when a score is
        not in [0, 1] (NaN is not).
        """
        check_inputs(self.bundle.manifest, ids, dense)
        (output,) = self._session.run(["score"], {"ids": ids, "dense": dense})
        scores = np.asarray(output, np.float64).reshape(-1)
        if len(scores) != len(ids) or not ((scores >= 0) & (scores <= 1)).all():
            bundle = self.bundle
            raise ScoreFailed(
                f"model {bundle.name} version {bundle.version}: {len(ids)} rows gave "
                f"{len(scores)} scores, not all of them in [0, 1]"
            )
        return scores

    def _check_golden(self) -> None:
        ids, dense, expected = golden_rows(self.bundle.folder, self.bundle.manifest)
        check_golden(expected, self.run(ids, dense))
        single = [self.run(ids[i : i + 1], dense[i : i + 1])[0] for i in range(len(ids))]
        check_golden(expected, np.array(single))


class Engine(Protocol):
    """What scores rows: a model in this process, or in another one."""

    def run(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """float64[rows] scores of `ids` int64[rows, C] and `dense` float32[rows, D]."""
        ...


class Batcher:
    """Runs what is queued whenever the model is free, the earliest deadline first."""

    def __init__(self, model: Engine) -> None:
        self._model = model
        self._queue: list[tuple[float, int, _Waiting]] = []
        self._order = itertools.count()
        self._flusher: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "scorer")

    async def score(self, ids: np.ndarray, dense: np.ndarray, deadline: float) -> Scores:
        """Scores of one request's rows; `deadline` on the monotonic clock (s).

        Raises TimeoutError when the deadline passed before its turn, else as `Model.run`.
        """
        done: asyncio.Future[Scores] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(ids, dense, time.monotonic(), done)
        heapq.heappush(self._queue, (deadline, next(self._order), waiting))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await done

    async def close(self, grace: float = 0.0) -> None:
        """Wait for what is being scored, after `grace` seconds in which more may come."""
        await asyncio.sleep(grace)
        if self._flusher is not None:
            await self._flusher
        self._thread.shutdown()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            batch = self._take()
            if not batch:
                continue
            started = time.monotonic()
            outcomes = await loop.run_in_executor(self._thread, self._run, batch)
            model_ms = (time.monotonic() - started) * 1000
            for waiting, outcome in zip(batch, outcomes, strict=True):
                if waiting.done.done():
                    continue
                if isinstance(outcome, Exception):
                    waiting.done.set_exception(outcome)
                else:
                    queue_ms = (started - waiting.since) * 1000
                    waiting.done.set_result(Scores(outcome, queue_ms, model_ms))

    def _take(self) -> list[_Waiting]:
        """The next requests that fit one run; cancelled ones are dropped, late ones refused."""
        batch: list[_Waiting] = []
        rows = 0
        now = time.monotonic()
        while self._queue:
            deadline, _, waiting = self._queue[0]
            if not waiting.done.done() and deadline >= now:
                if batch and rows + len(waiting.ids) > MAX_ROWS:
                    break
                batch.append(waiting)
                rows += len(waiting.ids)
            elif not waiting.done.done():
                waiting.done.set_exception(TimeoutError("not scored before its deadline"))
            heapq.heappop(self._queue)
        return batch

    def _run(self, batch: list[_Waiting]) -> list[np.ndarray | Exception]:
        """Scores per request; when a joint run fails each runs alone, so one spoils no other."""
        try:
            ids = np.concatenate([waiting.ids for waiting in batch])
            dense = np.concatenate([waiting.dense for waiting in batch])
            edges = np.cumsum([len(waiting.ids) for waiting in batch])[:-1]
            return list(np.split(self._model.run(ids, dense), edges))
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [outcome for waiting in batch for outcome in self._run([waiting])]
