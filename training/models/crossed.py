"""Models over all inputs laid side by side: DCN-v2 and MaskNet."""

import torch
from torch import Tensor, nn

from data_contracts.model_spec import ModelSpec
from training.models.inputs import Embeddings, Numerics, dimensions, first_answer, layers
from training.statistics import Seen


class SideBySide(nn.Module):
    """The embeddings and the standardised numbers as one row: float32[n, width]."""

    def __init__(self, spec: ModelSpec, seen: Seen) -> None:
        super().__init__()
        dims = dimensions(spec)
        self.numerics = Numerics(seen)
        self.embeddings = Embeddings(spec.categorical, dims, seen)
        self.width = sum(dims) + len(seen.mean)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        return torch.cat([*self.embeddings(ids), self.numerics(dense)], dim=1)


class Cross(nn.Module):
    """A full-rank cross layer of DCN-v2: x0 * (W x + b) + x (Wang et al. 2021, eq. 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, start: Tensor, x: Tensor) -> Tensor:
        return start * self.linear(x) + x


class DCNv2(nn.Module):
    """Deep and cross network v2, parallel form (Wang et al. 2021): cross layers beside an MLP."""

    def __init__(self, spec: ModelSpec, seen: Seen) -> None:
        super().__init__()
        self.inputs = SideBySide(spec, seen)
        width = self.inputs.width
        self.crosses = nn.ModuleList(Cross(width) for _ in range(spec.cross_layers))
        self.deep, inner = layers(width, spec.hidden, spec.dropout)
        self.head = first_answer(width + inner, seen)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        start = self.inputs(ids, dense)
        crossed = start
        for layer in self.crosses:
            crossed = layer(start, crossed)
        return self.head(torch.cat([crossed, self.deep(start)], dim=1)).squeeze(1)


class MaskBlock(nn.Module):
    """An instance-guided mask over the normalised inputs, then a layer (Wang et al. 2021, sec. 3).

    The first layer of the mask is twice as wide as the inputs, as in the paper.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.mask = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        self.layer = nn.Sequential(nn.Linear(width, size), nn.LayerNorm(size), nn.ReLU())

    def forward(self, start: Tensor, normal: Tensor) -> Tensor:
        return self.layer(self.mask(start) * normal)


class MaskNet(nn.Module):
    """Parallel MaskNet (Wang et al. 2021): `cross_layers` mask blocks side by side, then an MLP."""

    def __init__(self, spec: ModelSpec, seen: Seen) -> None:
        super().__init__()
        self.inputs = SideBySide(spec, seen)
        width, size = self.inputs.width, spec.hidden[0]
        self.normal = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(MaskBlock(width, size) for _ in range(spec.cross_layers))
        self.deep, inner = layers(size * spec.cross_layers, spec.hidden[1:], spec.dropout)
        self.head = first_answer(inner, seen)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        start = self.inputs(ids, dense)
        normal = self.normal(start)
        blocks = torch.cat([block(start, normal) for block in self.blocks], dim=1)
        return self.head(self.deep(blocks)).squeeze(1)
