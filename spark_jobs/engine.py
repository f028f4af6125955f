"""ONNX Runtime in Spark's workers: one session a process for a bundle, as the server runs it."""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime

from data_contracts.bundle import (
    GRAPH,
    BundleRefused,
    Manifest,
    check_golden,
    check_inputs,
    golden_rows,
    open_bundle,
)

AT_ONCE = 256
"""Rows scored in one run: the most that the server joins, and that golden rows are held to."""


@dataclass(frozen=True)
class Graph:
    """A verified bundle as it travels to the workers; equal by its digest."""

    digest: str
    manifest: Manifest = field(compare=False)
    content: bytes = field(compare=False, repr=False)
    golden: tuple[np.ndarray, np.ndarray, np.ndarray] = field(compare=False, repr=False)


def open_graph(folder: Path, digest: str) -> Graph:
    """The graph of the bundle in `folder`, registered under `digest`; raises BundleRefused."""
    manifest = open_bundle(folder, digest)
    content = (folder / GRAPH).read_bytes()
    return Graph(digest, manifest, content, golden_rows(folder, manifest))


class Engine:
    """A loaded graph whose golden rows have been checked; raises BundleRefused."""

    def __init__(self, graph: Graph) -> None:
        self._manifest = graph.manifest
        if hashlib.sha256(graph.content).hexdigest() != graph.manifest.members[GRAPH].sha256:
            raise BundleRefused(f"{GRAPH}: sha256 differs from the manifest")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                graph.content, options, ["CPUExecutionProvider"]
            )
        except Exception as error:
            raise BundleRefused(f"{GRAPH}: the engine cannot load it: {error}") from error
        ids, dense, expected = graph.golden
        check_golden(expected, self.score(ids, dense))

    def score(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """float64[n] of int64[n, C] and float32[n, D], n from 0; raises BundleRefused for inputs
        that the graph must not see and for scores that are not in [0, 1]."""
        scores = np.empty(len(ids))
        for begin in range(0, len(ids), AT_ONCE):
            part = slice(begin, begin + AT_ONCE)
            check_inputs(self._manifest, ids[part], dense[part])
            (output,) = self._session.run(["score"], {"ids": ids[part], "dense": dense[part]})
            scores[part] = np.asarray(output, np.float64).reshape(-1)
        if not ((scores >= 0) & (scores <= 1)).all():
            raise BundleRefused(f"{GRAPH}: gave scores that are not in [0, 1]: score with another")
        return scores


@lru_cache(maxsize=2)
def engine(graph: Graph) -> Engine:
    """The process's one session of that bundle."""
    return Engine(graph)
