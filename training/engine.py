"""ONNX Runtime: the engine that serves a bundle, here to verify and to compare bundles."""

import time
from pathlib import Path

import numpy as np
import onnxruntime

from data_contracts.bundle import GRAPH


class Engine:
    """A loaded graph with inputs `ids`, `dense` and output `score`; open the bundle first."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # As bytes: the engine then reads no other file that the graph may name.
        graph = (folder / GRAPH).read_bytes()
        self._session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])

    def score(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """float32[n]: probabilities of int64[n, C] and float32[n, D]."""
        (scores,) = self._session.run(["score"], {"ids": ids, "dense": dense})
        return np.asarray(scores)


def latency_p99_ms(engine: Engine, ids: np.ndarray, dense: np.ndarray) -> float:
    """p99 in milliseconds of scoring these rows, in the quietest of five rounds of 200 calls.

    The quietest, because a busy neighbour on the machine is not a property of the model.
    """
    for _ in range(20):
        engine.score(ids, dense)
    rounds = []
    for _ in range(5):
        spent = []
        for _ in range(200):
            start = time.perf_counter()
            engine.score(ids, dense)
            spent.append(time.perf_counter() - start)
        rounds.append(float(np.quantile(spent, 0.99)) * 1e3)
    return min(rounds)
