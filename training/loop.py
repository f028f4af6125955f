"""Training steps by Lightning, in this process or as one of several ranks."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from data_contracts.model_spec import ModelSpec
from training.best_epoch import BestEpoch, Checkpoint
from training.data import TrainingData
from training.fitted import Epoch, OnEpoch
from training.module import CtrModule
from training.quiet import quiet

_REMARKS = (
    "pytorch_lightning.utilities.rank_zero",
    logging.WARNING,
    ".*does not have many workers",
    r".*isinstance\(treespec, LeafSpec\)",
)
"""Lightning's banner, its advice on loader workers (the data is in memory), and what it still calls
of torch's older tree API."""


@dataclass(frozen=True)
class Trained:
    """What the steps left."""

    curve: list[Epoch]
    best: Epoch | None
    """The trained epoch of the lowest validation log loss, if one has any."""
    state: dict[str, Tensor]
    """The model's at that epoch."""


def run(
    model: nn.Module,
    spec: ModelSpec,
    data: TrainingData,
    on_epoch: OnEpoch | None,
    checkpoint: Checkpoint | None,
) -> Trained:
    """Train `model` in place. With `spec.devices` above one, this process is rank 0 or was started
    by it, and is there for nothing else: Lightning starts the others by its own command line."""
    with torch.random.fork_rng(), _one_thread(), quiet(*_REMARKS):
        module = CtrModule(model, spec)
        callback = BestEpoch(spec, checkpoint, on_epoch)
        trainer = Trainer(
            max_epochs=spec.max_epochs,
            accelerator=spec.accelerator,
            devices=spec.devices,
            strategy=_strategy(spec),
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
    state = {name.removeprefix("model."): each.cpu() for name, each in callback.state.items()}
    return Trained(callback.curve, callback.best, state)


def _strategy(spec: ModelSpec) -> DDPStrategy | str:
    if spec.devices == 1:
        return "auto"
    # Buffers are constants, the same on all devices.
    return DDPStrategy(cluster_environment=LightningEnvironment(), broadcast_buffers=False)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread: batches this small gain nothing from more, and sums keep their order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
