"""What a fit remembers: its best epoch, and where it may go on after a kill."""

import os
from copy import deepcopy
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from data_contracts.model_spec import ModelSpec
from training.fitted import Epoch, OnEpoch
from training.module import CtrModule


@dataclass(frozen=True)
class Checkpoint:
    """Where a fit leaves its state after every epoch, and what may go on from there."""

    path: Path
    resume: bool = False
    """Go on from `path` where it exists; else what lies there is overwritten."""
    key: str = ""
    """Of the data and the choices; a state under another key is refused."""


class BestEpoch(Callback):
    """Remembers the trained epoch of the lowest validation log loss and the untrained model.

    Training stops after `patience` epochs without a better one. Every epoch draws its random
    numbers from a seed of its own, so that a resumed fit goes on as an undisturbed one does.
    """

    def __init__(self, spec: ModelSpec, checkpoint: Checkpoint | None, tell: OnEpoch | None):
        self.spec, self.checkpoint, self.tell = spec, checkpoint, tell
        self.curve: list[Epoch] = []
        self.best: Epoch | None = None
        self.state: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.best and self.curve[-1].epoch - self.best.epoch >= self.spec.patience:
            trainer.should_stop = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        own = trainer.current_epoch + 10_007 * trainer.global_rank
        torch.manual_seed(self.spec.seed * 1_000_003 + own)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            assert isinstance(pl_module, CtrModule)
            validation = pl_module.mean("validation")
            if not self.curve:
                self.curve.append(Epoch(0, float("nan"), validation))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, CtrModule)
        figures = (pl_module.mean(split) for split in ("train", "validation"))
        epoch = Epoch(len(self.curve), *figures)
        self.curve.append(epoch)
        if self.best is None or epoch.validation < self.best.validation:
            self.best = epoch
            self.state = deepcopy(pl_module.state_dict())
        elif epoch.epoch - self.best.epoch >= self.spec.patience:
            trainer.should_stop = True
        if self.checkpoint:
            part = self.checkpoint.path.with_suffix(".part")
            trainer.save_checkpoint(part, weights_only=False)
            if trainer.is_global_zero:
                # Lightning moves a file here, in no single step where it is from another disk.
                os.replace(part, self.checkpoint.path)
        if self.tell and trainer.max_epochs:
            self.tell(epoch.epoch, trainer.max_epochs)

    def state_dict(self) -> dict[str, Any]:
        key = self.checkpoint.key if self.checkpoint else ""
        best = self.best.epoch if self.best else 0
        curve = [list(astuple(epoch)) for epoch in self.curve]
        return {"key": key, "curve": curve, "best": best, "state": self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.checkpoint is not None
        if state_dict["key"] != self.checkpoint.key:
            raise ValueError(
                f"{self.checkpoint.path}: left by other data or choices: train without --resume"
            )
        self.curve = [Epoch(*row) for row in state_dict["curve"]]
        self.best = self.curve[state_dict["best"]]
        self.state = state_dict["state"]
