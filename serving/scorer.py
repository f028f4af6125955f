"""The model: an ONNX Runtime session behind the input boundary, for many requests at once."""

# onnxruntime ships no types:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from data_contracts.bundle import GRAPH, BundleRefused, check_golden, check_inputs, golden_rows
from serving.batcher import Batcher
from serving.loader import Bundle
from serving.settings import Device

MAX_ROWS = 256
"""Rows scored in one run at most, so that a large request keeps no other waiting until its end."""
BATCHES = (1, 21, MAX_ROWS)
"""At how many rows a run the golden ones are scored: an engine adds up in another order then."""


class ScoreFailed(RuntimeError):
    """The model gave something that is no probability."""


@dataclass(frozen=True)
class Scores:
    """Scores of one request and where its time went."""

    values: np.ndarray
    """float64[rows] in [0, 1]."""
    queue_ms: float
    model_ms: float


_Rows = tuple[np.ndarray, np.ndarray]
"""ids int64[rows, C] and dense float32[rows, D] of one request."""


_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def providers(device: Device, offered: Collection[str]) -> list[tuple[str, dict[str, Any]]]:
    """What an engine that offers these is asked for, the first first; `auto` takes CUDA if it can.

    ValueError where CUDA is asked for and not offered.
    """
    if device == "cpu" or (device == "auto" and _CUDA not in offered):
        return [(_CPU, {})]
    if _CUDA not in offered:
        raise ValueError(
            f"device cuda: onnxruntime {ort.__version__} here offers {', '.join(offered)}: install "
            "onnxruntime-gpu in its place, or take --device cpu"
        )
    # Ten bits of a mantissa would not hold the golden rows.
    return [(_CUDA, {"use_tf32": "0"}), (_CPU, {})]


class Model:
    """A verified bundle's graph, ready to run; its golden rows have been checked on its device.

    ValueError where the device is not to be had, BundleRefused where the bundle is wrong.
    """

    def __init__(self, bundle: Bundle, threads: int, device: Device = "cpu") -> None:
        self.bundle = bundle
        wanted = providers(device, ort.get_available_providers())
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # As bytes: the engine then reads no other file that the graph may name.
        graph = bundle.graph.read_bytes()
        try:
            self._session = ort.InferenceSession(graph, options, providers=wanted)
        except Exception as error:
            raise BundleRefused(f"{GRAPH}: the engine cannot load it: {error}") from error
        first = self._session.get_providers()[0]
        if device == "cuda" and first != _CUDA:
            # The engine itself goes on without a provider that it cannot start.
            raise ValueError(
                f"device cuda: onnxruntime could not start it and took {first}: look at its log "
                "for a missing driver or library, or take --device cpu"
            )
        self.device: Device = "cuda" if first == _CUDA else "cpu"
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
        for size in BATCHES:
            rows = np.arange(max(size, len(ids))) % len(ids)
            parts = np.split(rows, range(size, len(rows), size))
            found = [self.run(ids[part], dense[part]) for part in parts]
            check_golden(expected[rows], np.concatenate(found))


class Engine(Protocol):
    """What scores rows: a model in this process, or in another one."""

    def run(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """float64[rows] scores of `ids` int64[rows, C] and `dense` float32[rows, D]."""
        ...


class Scorer:
    """Scores requests together, as many as wait; one that fails spoils no other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._batcher = Batcher[_Rows, np.ndarray]("scorer", self._run, _many, MAX_ROWS)

    @property
    def local(self) -> bool:
        """Whether it scores on this process's own processor."""
        return isinstance(self._engine, Model) and self._engine.device == "cpu"

    async def score(
        self, ids: np.ndarray, dense: np.ndarray, deadline: float, here: bool = False
    ) -> Scores:
        """Scores of one request's rows; `deadline` and `here` as `Batcher.ask` has them.

        Raises TimeoutError when the deadline passed before its turn, else as `Model.run`.
        """
        if len(ids) <= MAX_ROWS:
            done = await self._batcher.ask((ids, dense), deadline, here)
            return Scores(done.answer, done.queue_ms, done.run_ms)
        edges = range(MAX_ROWS, len(ids), MAX_ROWS)
        parts = zip(np.split(ids, edges), np.split(dense, edges), strict=True)
        # Not here: each part would be brief, and all of them together would hold the event loop.
        runs = await asyncio.gather(*(self._batcher.ask(part, deadline) for part in parts))
        scores, took = np.concatenate([run.answer for run in runs]), [run.run_ms for run in runs]
        return Scores(scores, runs[-1].queue_ms - sum(took[:-1]), sum(took))

    async def close(self, grace: float = 0.0) -> None:
        """As `Batcher.close`."""
        await self._batcher.close(grace)

    def _run(self, asks: Sequence[_Rows]) -> list[np.ndarray | Exception]:
        """Scores per request; when a joint run fails each runs alone."""
        try:
            ids = np.concatenate([ids for ids, _ in asks])
            dense = np.concatenate([dense for _, dense in asks])
            edges = np.cumsum([len(ids) for ids, _ in asks])[:-1]
            return list(np.split(self._engine.run(ids, dense), edges))
        except Exception as error:
            if len(asks) == 1:
                return [error]
            return [outcome for ask in asks for outcome in self._run([ask])]


def _many(rows: _Rows) -> int:
    return len(rows[0])
