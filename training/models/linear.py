"""The models that everything else must beat: the constant and logistic regression."""

import torch
from torch import Tensor, nn

from data_contracts.model_spec import ModelSpec
from training.models.inputs import Embeddings, Numerics, first_answer
from training.statistics import Seen


class Constant(nn.Module):
    """The training base rate for every row."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.linear = first_answer(len(seen.mean), seen)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        return self.linear(torch.zeros_like(dense)).squeeze(1)


class Logistic(nn.Module):
    """Logistic regression: one weight per id and per numeric input."""

    def __init__(self, spec: ModelSpec, seen: Seen) -> None:
        super().__init__()
        self.numerics = Numerics(seen)
        self.weights = Embeddings(spec.categorical, [1] * len(spec.categorical), seen, std=0.0)
        self.linear = first_answer(len(seen.mean), seen)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        logit = self.linear(self.numerics(dense))
        for weight in self.weights(ids):
            logit = logit + weight
        return logit.squeeze(1)
