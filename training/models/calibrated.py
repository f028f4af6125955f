"""A model that was fitted on a sample of the negatives."""

import math

import torch
from torch import Tensor, nn


class Calibrated(nn.Module):
    """A model fitted on `rate` of the negatives whose logits answer for all of them.

    Sampling multiplies the odds by 1 / rate, so log(rate) is added (King & Zeng 2001, eq. 7; He et
    al. 2014, sec. 6.3).
    """

    shift: Tensor

    def __init__(self, model: nn.Module, rate: float) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("shift", torch.tensor(math.log(rate)))

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        return self.model(ids, dense) + self.shift
