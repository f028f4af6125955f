"""What all models share: numeric transforms, embeddings with a vocabulary, the first answer."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from data_contracts.encoding import Categorical
from data_contracts.model_spec import ModelSpec
from training.statistics import Seen

LIMIT = 5.0
"""Deviations from the mean beyond which a number counts as no further away."""


class Numerics(nn.Module):
    """Signed log (asinh), standardised with the training rows' moments, clipped to +-`LIMIT`.

    asinh rather than log1p, which ONNX lacks: exported as log(1 + x) it loses the digits of small
    rates.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, seen: Seen) -> None:
        """A column that is constant, as far as float32 can tell, is mapped to zero."""
        super().__init__()
        varies = seen.deviation > 1e-4 * seen.largest
        scale = np.where(varies, 1 / np.where(varies, seen.deviation, 1.0), 0.0)
        self.register_buffer("mean", torch.tensor(seen.mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, dense: Tensor) -> Tensor:
        standard = (torch.asinh(dense) - self.mean) * self.scale
        return torch.clamp(standard, -LIMIT, LIMIT)


class Vocabulary(nn.Module):
    """One table of an input: a row per id, and a last one for all ids out of vocabulary.

    An id is out of vocabulary when fewer than `min_count` training rows hold it. That row starts at
    zero and only such ids train it: while no training row is out of vocabulary it stays neutral.
    """

    row: Tensor

    def __init__(self, column: Categorical, dim: int, count: np.ndarray, std: float) -> None:
        """`count` int64[buckets]: training rows that hold each id."""
        super().__init__()
        ids = np.arange(column.buckets)
        known = np.where(count >= column.min_count, ids, column.buckets)
        self.register_buffer("row", torch.from_numpy(known))
        self.table = nn.Embedding(column.buckets + 1, dim)
        nn.init.normal_(self.table.weight, std=std)
        nn.init.zeros_(self.table.weight[-1])

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(self.row[ids])


class Embeddings(nn.Module):
    """A vector per categorical input: int64[n, C] -> C times float32[n, dim]."""

    def __init__(
        self, columns: Sequence[Categorical], dims: Sequence[int], seen: Seen, std: float = 0.05
    ) -> None:
        super().__init__()
        self.tables = nn.ModuleList(
            Vocabulary(column, dim, count, std)
            for column, dim, count in zip(columns, dims, seen.counts, strict=True)
        )

    def forward(self, ids: Tensor) -> list[Tensor]:
        return [table(ids[:, column]) for column, table in enumerate(self.tables)]


def dimensions(spec: ModelSpec) -> list[int]:
    """The width of each input's embedding: its own `dim`, else the model's, else by rule.

    The rule: twice the fourth root of the buckets (that root: Google, TensorFlow's guide to feature
    columns, 2017), up to the next multiple of 4 and at most 64.
    """
    ruled = [min(64, 4 * math.ceil(c.buckets**0.25 / 2)) for c in spec.categorical]
    return [
        column.dim or spec.embedding_dim or rule
        for column, rule in zip(spec.categorical, ruled, strict=True)
    ]


def one_dimension(spec: ModelSpec) -> int:
    """The width where all vectors must share one: the largest of `dimensions`."""
    return max(dimensions(spec), default=8)


def layers(width: int, sizes: Sequence[int], dropout: float) -> tuple[nn.Sequential, int]:
    """Linear, ReLU and dropout for each size, and the width that comes out."""
    parts: list[nn.Module] = []
    for size in sizes:
        parts += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
        width = size
    return nn.Sequential(*parts), width


def first_answer(width: int, seen: Seen) -> nn.Linear:
    """A last layer that at first answers the base rate to every row."""
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, math.log(seen.base_rate / (1 - seen.base_rate)))
    return head
