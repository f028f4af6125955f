"""ONNX Runtime: the engine that serves a bundle, here to verify, compare and quantise them."""

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from data_contracts.bundle import GRAPH
from training.quiet import quiet

QUANTISED = ("Gather", "Gemm", "MatMul")
"""Operators whose weights become int8."""


class Scoring(Protocol):
    """Whatever scores rows."""

    def score(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """float32[n]: probabilities of int64[n, C] and float32[n, D]."""
        ...


class Engine:
    """A loaded graph with inputs `ids`, `dense` and output `score`; open the bundle first."""

    def __init__(self, folder: Path) -> None:
        self._session = session(folder / GRAPH)

    def score(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """float32[n]: probabilities of int64[n, C] and float32[n, D]."""
        (scores,) = self._session.run(["score"], {"ids": ids, "dense": dense})
        return np.asarray(scores)


def session(graph: Path) -> onnxruntime.InferenceSession:
    """A graph of an opened bundle, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # As bytes: the engine then reads no other file that the graph may name.
    return onnxruntime.InferenceSession(graph.read_bytes(), options, ["CPUExecutionProvider"])


CALLS = 200
"""Of each of the rounds in which a latency is measured."""


def latency_ms(
    engine: Scoring, ids: np.ndarray, dense: np.ndarray, calls: int = CALLS
) -> tuple[float, float]:
    """p50 and p99 in milliseconds of scoring these rows, in the quietest of five rounds of `calls`.

    The quietest, because a busy neighbour on the machine is not a property of the model.
    """
    for _ in range(20):
        engine.score(ids, dense)
    rounds = []
    for _ in range(5):
        spent = []
        for _ in range(calls):
            start = time.perf_counter()
            engine.score(ids, dense)
            spent.append(time.perf_counter() - start)
        rounds.append(np.quantile(spent, (0.5, 0.99)) * 1e3)
    p50, p99 = np.min(rounds, axis=0)
    return float(p50), float(p99)


def quantise(graph: Path, to: Path, sample: tuple[np.ndarray, np.ndarray] | None = None) -> None:
    """Write the int8 form of a graph: static where `sample` (ids, dense) gives the ranges of what
    flows between its layers, else dynamic, which takes them from each batch."""
    from onnxruntime.quantization import quantize_dynamic, quantize_static

    # It advises on a step that our graphs, folded when they were exported, do not need.
    with quiet("", logging.ERROR):
        if sample is None:
            quantize_dynamic(graph, to, op_types_to_quantize=list(QUANTISED))
        else:
            parts: Any = _Parts(*sample)
            quantize_static(graph, to, parts, op_types_to_quantize=list(QUANTISED))


class _Parts:
    """Rows as calibration takes them, 256 at a time; a `CalibrationDataReader`."""

    def __init__(self, ids: np.ndarray, dense: np.ndarray) -> None:
        cuts = (slice(at, at + 256) for at in range(0, len(ids), 256))
        self._parts: Iterator[Mapping[str, Any]] = (
            {"ids": ids[cut], "dense": dense[cut]} for cut in cuts
        )

    def get_next(self) -> Mapping[str, Any] | None:
        """The next rows by the graph's inputs; None after the last."""
        return next(self._parts, None)
