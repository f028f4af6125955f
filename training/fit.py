"""Fitting a model with Lightning: AdamW, the best epoch by validation log loss, fixed seeds."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from data_contracts.model_spec import ModelSpec
from training.data import TrainingData
from training.fitted import Epoch, Fitted, OnEpoch, better_untrained, check_finite
from training.models.names import TREES
from training.models.zoo import build_model
from training.schedule import factor
from training.trees import fit_trees
from training.warm import warm_state

Batch = tuple[Tensor, Tensor, Tensor]


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


class CtrModule(LightningModule):
    """Log loss of a model and its optimiser; biases are not decayed."""

    def __init__(self, model: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.model = model
        self.spec = spec
        self.sampled = -math.log(spec.negative_rate)
        """Logit by which the training rows have more positives than all rows."""
        self.sums: dict[str, list[tuple[Tensor, int]]] = {"train": [], "validation": []}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        return self._loss("train", batch, self.sampled)

    def validation_step(self, batch: Batch, _: int) -> None:
        self._loss("validation", batch)

    def _loss(self, split: str, batch: Batch, odds: float = 0.0) -> Tensor:
        ids, dense, labels = batch
        loss = binary_cross_entropy_with_logits(self.model(ids, dense) + odds, labels)
        self.sums[split].append((loss.detach(), len(labels)))
        return loss

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
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: factor(self.spec.schedule, step, steps)
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


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
        torch.manual_seed(self.spec.seed * 1_000_003 + trainer.current_epoch)

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
            trainer.save_checkpoint(self.checkpoint.path, weights_only=False)
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


def fit(
    name: str,
    spec: ModelSpec,
    data: TrainingData,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
    warm: Path | None = None,
) -> Fitted:
    """The model `name` fitted on the data's training split, at its best epoch, in eval mode.

    The untrained model, which is the constant, is epoch 0: it is taken when the validation rows say
    with their whole interval that training made things worse. Where they cannot tell, the trained
    one is kept: a constant tells neither candidates nor a wrong graph apart. With `warm`, the
    folder of an opened bundle of the same kind of model, that model is epoch 0. The same data, spec
    and kind of machine give the same weights. Nothing but the checkpoint is written to disk.
    """
    if name == TREES:
        return fit_trees(spec, data, on_epoch)
    with torch.random.fork_rng(), _one_thread(), _quiet():
        torch.manual_seed(spec.seed)
        model = build_model(name, spec, data.dataset.seen(spec, data.kept))
        if spec.negative_rate < 1:
            model = Calibrated(model, spec.negative_rate)
        if warm is not None:
            model.load_state_dict(warm_state(warm, model))
        module = CtrModule(model, spec)
        untrained = deepcopy(module.model).eval()
        callback = BestEpoch(spec, checkpoint, on_epoch)
        trainer = Trainer(
            max_epochs=spec.max_epochs,
            accelerator=spec.accelerator,
            devices=spec.devices,
            strategy="ddp" if spec.devices > 1 else "auto",
            precision=spec.precision,  # pyright: ignore[reportArgumentType]
            gradient_clip_val=spec.gradient_clip,
            callbacks=[callback],
            num_sanity_val_steps=-1,
            reload_dataloaders_every_n_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        resumed = checkpoint and checkpoint.resume and checkpoint.path.exists()
        path = checkpoint.path if checkpoint and resumed else None
        trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    best = check_finite(name, callback.curve, callback.best, spec.learning_rate)
    module.load_state_dict(callback.state)
    model = module.model.cpu().eval()
    if better_untrained(model, untrained, data.dataset.splits["validation"]):
        model, best = untrained, callback.curve[0]
    return Fitted(model, tuple(callback.curve), best)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread: batches this small gain nothing from more, and sums keep their order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's banner, its advice on loader workers (the data is in memory), and what it
    still calls of torch's older tree API."""
    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers")
            warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\)")
            yield
    finally:
        log.setLevel(level)
