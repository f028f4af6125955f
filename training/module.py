"""The one LightningModule around the zoo: log loss and its optimiser."""

import math
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from data_contracts.model_spec import ModelSpec
from training.batches import Batch
from training.schedule import cosine


class CtrModule(LightningModule):
    """Log loss of a model and its optimiser; biases are not decayed."""

    def __init__(self, model: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.model = model
        self.spec = spec
        self.sampled = -math.log(spec.negative_rate)
        """Logit by which the training rows have more positives than all rows."""
        self.sums: dict[str, list[tuple[Tensor, int]]] = {"train": [], "validation": []}

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning notes the hook that it is in some forty times a step, for which a module's own
        search for parameters and buffers took a twentieth of a small model's step."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The mean over the step's rows of all devices, as far as this one's go: their gradients
        are averaged."""
        ids, dense, labels = batch
        logits = self.model(ids, dense).float() + self.sampled
        own = len(labels)
        if self.trainer.world_size == 1:
            loss = binary_cross_entropy_with_logits(logits, labels)
            self.sums["train"].append((loss.detach(), own))
            return loss
        total = binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        self.sums["train"].append((total.detach() / max(1, own), own))
        rows = torch.tensor(float(own), device=self.device)
        return total / self.trainer.strategy.reduce(rows, reduce_op="mean")

    def validation_step(self, batch: Batch, _: int) -> None:
        """In the precision of the exported graph, whatever the steps' is."""
        ids, dense, labels = batch
        with torch.autocast(self.device.type, enabled=False):
            loss = binary_cross_entropy_with_logits(self.model(ids, dense), labels, reduction="sum")
        self.sums["validation"].append((loss / max(1, len(labels)), len(labels)))

    def mean(self, split: str) -> float:
        """The mean log loss over all rows of all devices since it was last asked for."""
        losses, rows = zip(*self.sums[split], strict=True)
        self.sums[split].clear()
        weights = torch.tensor(rows, dtype=torch.float64, device=self.device)
        total = (torch.stack(losses).double() * weights).sum()
        both = self.trainer.strategy.reduce(torch.stack([total, weights.sum()]), reduce_op="sum")
        return float(both[0] / both[1])

    def configure_optimizers(self) -> Any:
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        free = [p for p in self.model.parameters() if p.ndim == 1]
        optimiser = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.spec.weight_decay},
                {"params": free, "weight_decay": 0.0},
            ],
            lr=self.spec.learning_rate,
        )
        if self.spec.schedule == "constant":
            return optimiser
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine(step, steps))
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
