"""What a fit gives, whatever was fitted: a model at its best epoch and the way there."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from data_contracts.evidence import effective_users, few_users, paired_difference
from training.data import Dataset
from training.evaluate import predict

OnEpoch = Callable[[int, int], None]
"""(epochs done, most epochs there will be)"""


@dataclass(frozen=True)
class Epoch:
    """Mean log loss (nats) after an epoch; epoch 0 is the untrained model, with NaN for `train`.

    An epoch of trees is a round: one tree more.
    """

    epoch: int
    train: float
    validation: float


@dataclass(frozen=True)
class Fitted:
    """A model at its best epoch and the way there."""

    model: nn.Module
    curve: tuple[Epoch, ...]
    best: Epoch


def better_untrained(trained: nn.Module, untrained: nn.Module, dataset: Dataset) -> bool:
    """Whether the validation rows say with their whole interval that training made things worse;
    those of fewer than `LEAST_USERS` effective users say nothing."""
    validation, users = dataset.splits["validation"], dataset.users.get("validation")
    if few_users(effective_users(len(validation.labels), users)):
        return False
    first, second = (predict(model, validation) for model in (trained, untrained))
    return paired_difference(validation.labels, first, second, users=users).low > 0


def check_finite(name: str, curve: list[Epoch], best: Epoch | None, rate: float) -> Epoch:
    """`best`; FloatingPointError where no epoch has a finite validation log loss."""
    if best is None or not math.isfinite(best.validation):
        raise FloatingPointError(
            f"{name}: no epoch of {len(curve) - 1} has a finite validation log loss: "
            f"lower the learning rate ({rate:g})"
        )
    return best
