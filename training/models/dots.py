"""Models of inner products: DLRM and two towers."""

import math

import torch
from torch import Tensor, nn

from data_contracts.model_spec import ModelSpec
from training.models.inputs import (
    Embeddings,
    Numerics,
    Vocabulary,
    dimensions,
    first_answer,
    layers,
    one_dimension,
)
from training.statistics import Seen


class DLRM(nn.Module):
    """Deep learning recommendation model (Naumov et al. 2019).

    An MLP makes one vector of the numbers, which meets the ids' vectors in all inner products.
    """

    def __init__(self, spec: ModelSpec, seen: Seen) -> None:
        super().__init__()
        width, count = one_dimension(spec), len(spec.categorical) + 1
        self.numerics = Numerics(seen)
        self.embeddings = Embeddings(spec.categorical, [width] * (count - 1), seen)
        self.bottom, inner = layers(len(seen.mean), spec.hidden[:1], spec.dropout)
        self.vector = nn.Linear(inner, width)
        self.pairs = [(i, j) for i in range(count) for j in range(i)]
        self.top, inner = layers(width + len(self.pairs), spec.hidden, spec.dropout)
        self.head = first_answer(inner, seen)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        numbers = self.vector(self.bottom(self.numerics(dense)))
        vectors = [numbers, *self.embeddings(ids)]
        dots = [(vectors[i] * vectors[j]).sum(dim=1, keepdim=True) for i, j in self.pairs]
        return self.head(self.top(torch.cat([numbers, *dots], dim=1))).squeeze(1)


class Tower(nn.Module):
    """One side's inputs as a vector: float32[n, width]."""

    dense: Tensor

    def __init__(
        self, spec: ModelSpec, seen: Seen, ids: list[int], dense: list[int], width: int
    ) -> None:
        """`ids` and `dense`: this side's columns."""
        super().__init__()
        dims = dimensions(spec)
        self.ids = ids
        self.register_buffer("dense", torch.tensor(dense, dtype=torch.int64))
        self.tables = nn.ModuleList(
            Vocabulary(spec.categorical[j], dims[j], seen.counts[j], std=0.05) for j in ids
        )
        inner = sum(dims[j] for j in ids) + len(dense)
        self.deep, inner = layers(inner, spec.hidden, spec.dropout)
        self.vector = nn.Linear(inner, width)

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        parts = [table(ids[:, j]) for j, table in zip(self.ids, self.tables, strict=True)]
        return self.vector(self.deep(torch.cat([*parts, numbers[:, self.dense]], dim=1)))


class TwoTower(nn.Module):
    """The inner product of an item's vector and everything else's (Yi et al. 2019).

    The item's side is `ModelSpec.item`; ValueError where that leaves either side without inputs.
    """

    def __init__(self, spec: ModelSpec, seen: Seen) -> None:
        super().__init__()
        names = [column.field for column in spec.categorical]
        item = [j for j, name in enumerate(names) if name in spec.item]
        user = [j for j, name in enumerate(names) if name not in spec.item]
        others = [j for j in range(len(seen.mean)) if j not in seen.item]
        if not (item or seen.item) or not (user or others):
            raise ValueError(
                f"model two_tower: item {spec.item!r} leaves a tower without inputs: name the "
                "item's fields and feature groups in the use case's ModelSpec"
            )
        width = spec.hidden[-1]
        self.numerics = Numerics(seen)
        self.item = Tower(spec, seen, item, list(seen.item), width)
        self.user = Tower(spec, seen, user, others, width)
        self.base = nn.Parameter(torch.tensor([math.log(seen.base_rate / (1 - seen.base_rate))]))
        nn.init.zeros_(self.item.vector.weight)
        nn.init.zeros_(self.item.vector.bias)

    def vectors(self, ids: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """The rows' user and item vectors, float32[n, width] each."""
        numbers = self.numerics(dense)
        return self.user(ids, numbers), self.item(ids, numbers)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        user, item = self.vectors(ids, dense)
        return (user * item).sum(dim=1) + self.base
