"""Fitting a model with Lightning: AdamW, the best epoch by validation log loss, fixed seeds."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from data_contracts.use_case import ModelSpec
from training.data import TrainingData
from training.fitted import Epoch, Fitted, OnEpoch, better_untrained, check_finite
from training.models.names import TREES
from training.models.zoo import build_model
from training.trees import fit_trees

Batch = tuple[Tensor, Tensor, Tensor]


class CtrModule(LightningModule):
    """Log loss of a model and its optimiser; biases are not decayed."""

    def __init__(self, model: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.model = model
        self.spec = spec

    def training_step(self, batch: Batch, _: int) -> Tensor:
        return self._loss("train", batch)

    def validation_step(self, batch: Batch, _: int) -> None:
        self._loss("validation", batch)

    def _loss(self, split: str, batch: Batch) -> Tensor:
        ids, dense, labels = batch
        loss = binary_cross_entropy_with_logits(self.model(ids, dense), labels)
        self.log(split, loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        free = [p for p in self.model.parameters() if p.ndim == 1]
        return torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.spec.weight_decay},
                {"params": free, "weight_decay": 0.0},
            ],
            lr=self.spec.learning_rate,
        )


class BestEpoch(Callback):
    """Remembers the trained epoch of the lowest validation log loss and the untrained model.

    Training stops after `patience` epochs without a better one.
    """

    def __init__(self, patience: int, on_epoch: OnEpoch | None) -> None:
        self.patience = patience
        self.on_epoch = on_epoch
        self.curve: list[Epoch] = []
        self.best: Epoch | None = None
        self.state: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            validation = float(trainer.callback_metrics["validation"])
            self.curve.append(Epoch(0, float("nan"), validation))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        figures = trainer.callback_metrics
        epoch = Epoch(len(self.curve), float(figures["train"]), float(figures["validation"]))
        self.curve.append(epoch)
        if self.best is None or epoch.validation < self.best.validation:
            self.best = epoch
            self.state = deepcopy(pl_module.state_dict())
        elif epoch.epoch - self.best.epoch >= self.patience:
            trainer.should_stop = True
        if self.on_epoch and trainer.max_epochs:
            self.on_epoch(epoch.epoch, trainer.max_epochs)


def fit(
    name: str,
    spec: ModelSpec,
    data: TrainingData,
    on_epoch: OnEpoch | None = None,
    accelerator: str = "cpu",
) -> Fitted:
    """The model `name` fitted on the data's training split, at its best epoch, in eval mode.

    The untrained model, which is the constant, is epoch 0: it is taken when the validation rows say
    with their whole interval that training made things worse. Where they cannot tell, the trained
    one is kept: a constant tells neither candidates nor a wrong graph apart. The same data, spec
    and kind of machine give the same weights. Nothing is written to disk.
    """
    if name == TREES:
        return fit_trees(spec, data, on_epoch)
    with torch.random.fork_rng(), _one_thread(), _quiet():
        torch.manual_seed(spec.seed)
        module = CtrModule(build_model(name, spec, data.dataset.seen(spec)), spec)
        untrained = deepcopy(module.state_dict())
        callback = BestEpoch(spec.patience, on_epoch)
        trainer = Trainer(
            max_epochs=spec.max_epochs,
            accelerator=accelerator,
            devices=1,
            callbacks=[callback],
            num_sanity_val_steps=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data)
    best = check_finite(name, callback.curve, callback.best, spec.learning_rate)
    model = module.model.cpu().eval()
    constant = deepcopy(module)
    constant.load_state_dict(untrained)
    module.load_state_dict(callback.state)
    if better_untrained(model, constant.model, data.dataset.splits["validation"]):
        model, best = constant.model, callback.curve[0]
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
