"""Factorisation machines: every pair of inputs interacts through the vectors of both."""

import torch
from torch import Tensor, nn

from data_contracts.model_spec import ModelSpec
from training.models.inputs import Embeddings, Numerics, first_answer, layers, one_dimension
from training.models.linear import Logistic
from training.statistics import Seen


class Factors(nn.Module):
    """One vector of the same width per input: an id's own, a number's scaled by its value."""

    def __init__(self, spec: ModelSpec, seen: Seen) -> None:
        super().__init__()
        self.width = one_dimension(spec)
        same = [self.width] * len(spec.categorical)
        self.numerics = Numerics(seen)
        self.embeddings = Embeddings(spec.categorical, same, seen)
        self.scaled = nn.Parameter(torch.randn(len(seen.mean), self.width) * 0.05)

    def forward(self, ids: Tensor, dense: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of all vectors [n, width], sum of their squares [n, width], all ids' [n, C width]
        beside the numbers [n, D]."""
        numbers = self.numerics(dense)
        vectors = self.embeddings(ids)
        total, squares = numbers @ self.scaled, numbers**2 @ self.scaled**2
        for vector in vectors:
            total, squares = total + vector, squares + vector**2
        return total, squares, torch.cat([*vectors, numbers], dim=1)


class FM(nn.Module):
    """Factorisation machine (Rendle 2010, eq. 1 and 5) with a weight per factor.

    The weights (He & Chua 2017 have them in NFM without hidden layers) start at zero.
    """

    def __init__(self, spec: ModelSpec, seen: Seen) -> None:
        super().__init__()
        self.linear = Logistic(spec, seen)
        self.factors = Factors(spec, seen)
        self.weights = nn.Parameter(torch.zeros(self.factors.width))

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        total, squares, _ = self.factors(ids, dense)
        return self.linear(ids, dense) + (total**2 - squares) / 2 @ self.weights


class DeepFM(nn.Module):
    """A factorisation machine and an MLP over the same vectors (Guo et al. 2017)."""

    def __init__(self, spec: ModelSpec, seen: Seen) -> None:
        super().__init__()
        self.linear = Logistic(spec, seen)
        self.factors = Factors(spec, seen)
        width = self.factors.width * len(spec.categorical) + len(seen.mean)
        self.deep, width = layers(width, spec.hidden, spec.dropout)
        self.weights = nn.Parameter(torch.zeros(self.factors.width))
        self.head = first_answer(width, seen)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        total, squares, start = self.factors(ids, dense)
        pairs = (total**2 - squares) / 2 @ self.weights
        return self.linear(ids, dense) + pairs + self.head(self.deep(start)).squeeze(1)
