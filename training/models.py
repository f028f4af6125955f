"""The model zoo: plain modules from `(ids int64[n, C], dense float32[n, D])` to logits float32[n].

Every model starts as the constant that predicts the training base rate, and its numeric transforms
are part of it: the exported graph takes raw features.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from data_contracts.use_case import ModelSpec
from training.data import Rows


class Numerics(nn.Module):
    """Signed log (asinh), standardised with the training rows' moments, clipped to +-`limit`.

    asinh rather than log1p, which ONNX lacks: exported as log(1 + x) it loses the digits of small
    rates.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dense: np.ndarray, limit: float = 5.0) -> None:
        """`dense` float32[n, D]: the training rows.

        A column that is constant, as far as float32 can tell, is mapped to zero.
        """
        super().__init__()
        squashed = np.arcsinh(dense.astype(np.float64))
        spread = squashed.std(axis=0)
        varies = spread > 1e-4 * np.abs(squashed).max(axis=0)
        scale = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
        self.limit = limit
        self.register_buffer("mean", torch.tensor(squashed.mean(axis=0), dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, dense: Tensor) -> Tensor:
        standard = (torch.asinh(dense) - self.mean) * self.scale
        return torch.clamp(standard, -self.limit, self.limit)


class Constant(nn.Module):
    """The training base rate for every row: what a model must beat."""

    def __init__(self, spec: ModelSpec, train: Rows) -> None:
        super().__init__()
        self.linear = _head(train.dense.shape[1], train.labels)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        return self.linear(torch.zeros_like(dense)).squeeze(1)


class Logistic(nn.Module):
    """Logistic regression: one weight per id and per numeric input."""

    def __init__(self, spec: ModelSpec, train: Rows) -> None:
        super().__init__()
        self.numerics = Numerics(train.dense)
        self.weights = nn.ModuleList(nn.Embedding(c.buckets, 1) for c in spec.categorical)
        self.linear = _head(train.dense.shape[1], train.labels)
        for table in self.weights.parameters():
            nn.init.zeros_(table)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        logit = self.linear(self.numerics(dense))
        for column, table in enumerate(self.weights):
            logit = logit + table(ids[:, column])
        return logit.squeeze(1)


class Cross(nn.Module):
    """A full-rank cross layer of DCN-v2: x0 * (W x + b) + x (Wang et al. 2021, eq. 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, start: Tensor, x: Tensor) -> Tensor:
        return start * self.linear(x) + x


class DCNv2(nn.Module):
    """Deep and cross network v2, parallel form (Wang et al. 2021): cross layers beside an MLP.

    Embeddings start near zero, so an id that training never saw stays neutral.
    """

    def __init__(self, spec: ModelSpec, train: Rows) -> None:
        super().__init__()
        self.numerics = Numerics(train.dense)
        self.embeddings = nn.ModuleList(
            nn.Embedding(c.buckets, spec.embedding_dim) for c in spec.categorical
        )
        for table in self.embeddings.parameters():
            nn.init.normal_(table, std=0.01)
        width = train.dense.shape[1] + spec.embedding_dim * len(spec.categorical)
        self.crosses = nn.ModuleList(Cross(width) for _ in range(spec.cross_layers))
        layers: list[nn.Module] = []
        inner = width
        for size in spec.hidden:
            layers += [nn.Linear(inner, size), nn.ReLU(), nn.Dropout(spec.dropout)]
            inner = size
        self.deep = nn.Sequential(*layers)
        self.head = _head(width + inner, train.labels)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        parts = [table(ids[:, column]) for column, table in enumerate(self.embeddings)]
        start = torch.cat([*parts, self.numerics(dense)], dim=1)
        crossed = start
        for layer in self.crosses:
            crossed = layer(start, crossed)
        return self.head(torch.cat([crossed, self.deep(start)], dim=1)).squeeze(1)


def _head(width: int, labels: np.ndarray) -> nn.Linear:
    """A last layer that at first answers the base rate of `labels` to every row.

    Half a row is added to each side, so that the rate is never 0 or 1.
    """
    head = nn.Linear(width, 1)
    rate = (float(labels.sum()) + 0.5) / (len(labels) + 1)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, math.log(rate / (1 - rate)))
    return head


Build = Callable[[ModelSpec, Rows], nn.Module]

MODELS: dict[str, Build] = {"logistic": Logistic, "dcn_v2": DCNv2}


def build_model(name: str, spec: ModelSpec, train: Rows) -> nn.Module:
    """An untrained model by name; ValueError naming the known ones."""
    if name not in MODELS:
        raise ValueError(f"model {name!r}: not in the zoo: name one of {', '.join(sorted(MODELS))}")
    return MODELS[name](spec, train)
