"""Engines of torch: a scorer compiled for this host, or captured on a GPU."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def compile_ahead(scorer: nn.Module, ids: int, dense: int, path: Path) -> None:
    """Compile a scorer of `ids` and `dense` columns for this host by AOTInductor, into `path`.

    Its code uses as many threads as torch is set to now.
    """
    rows = torch.export.Dim("rows")
    sample = (torch.zeros((2, ids), dtype=torch.int64), torch.zeros((2, dense)))
    shapes = ({0: rows}, {0: rows})
    program = torch.export.export(scorer, sample, dynamic_shapes=shapes)
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))


class Compiled:
    """What `compile_ahead` wrote: code, so only what our own process made is loaded."""

    def __init__(self, path: Path) -> None:
        self._model = torch._inductor.aoti_load_package(str(path))

    def score(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """float32[n]: probabilities of int64[n, C] and float32[n, D]."""
        with torch.inference_mode():
            scores: Tensor = self._model(torch.from_numpy(ids), torch.from_numpy(dense))
        return scores.numpy()


class OnGpu:
    """A scorer on the GPU: its matrix products in bf16, one CUDA graph per number of rows."""

    def __init__(self, scorer: nn.Module) -> None:
        self._model = scorer.cuda()
        self._captured: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]] = {}

    def score(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """float32[n]: probabilities of int64[n, C] and float32[n, D]."""
        if len(ids) not in self._captured:
            self._captured[len(ids)] = self._capture(torch.from_numpy(ids), torch.from_numpy(dense))
        graph, own_ids, own_dense, scores = self._captured[len(ids)]
        own_ids.copy_(torch.from_numpy(ids))
        own_dense.copy_(torch.from_numpy(dense))
        graph.replay()
        return scores.float().cpu().numpy()

    def _capture(
        self, ids: Tensor, dense: Tensor
    ) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]:
        ids, dense = ids.cuda(), dense.cuda()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        # Weights cast before the capture would lie in memory that the capture does not own.
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._model(ids, dense)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                scores = self._model(ids, dense)
        return graph, ids, dense, scores
