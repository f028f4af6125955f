"""Fitting a model of the zoo: AdamW, the best epoch by validation log loss, fixed seeds."""

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from data_contracts.model_spec import ModelSpec
from training.best_epoch import Checkpoint
from training.data import TrainingData
from training.fitted import Fitted, OnEpoch, better_untrained, check_finite
from training.loop import run
from training.models.calibrated import Calibrated
from training.models.names import TREES
from training.models.zoo import build_model
from training.ranks import run_ranks
from training.trees import fit_trees
from training.warm import warm_state


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
    and kind of machine give the same weights. Nothing is written to disk but the checkpoint and,
    where several devices train, the rows: their processes are others.
    """
    if name == TREES:
        _refuse_for_trees(spec, checkpoint, warm)
        return fit_trees(spec, data, on_epoch)
    model = epoch_zero(name, spec, data, warm)
    untrained = deepcopy(model).eval()
    trained = (run if spec.devices == 1 else run_ranks)(model, spec, data, on_epoch, checkpoint)
    best = check_finite(name, trained.curve, trained.best, spec.learning_rate)
    model.load_state_dict(trained.state)
    model = model.cpu().eval()
    if better_untrained(model, untrained, data.dataset):
        model, best = untrained, trained.curve[0]
    return Fitted(model, tuple(trained.curve), best)


def epoch_zero(name: str, spec: ModelSpec, data: TrainingData, warm: Path | None) -> nn.Module:
    """The model that a fit begins with; NotContinued where it cannot go on from `warm`."""
    seen = data.dataset.seen(spec)
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        if spec.negative_rate == 1:
            model = build_model(name, spec, seen)
        else:
            model = build_model(name, spec, seen.sampled(spec.negative_rate))
            model = Calibrated(model, spec.negative_rate)
    if warm is not None:
        model.load_state_dict(warm_state(warm, model))
    return model


def _refuse_for_trees(spec: ModelSpec, checkpoint: Checkpoint | None, warm: Path | None) -> None:
    """ValueError naming what is asked for and what trees cannot do."""
    asked = {
        "--resume": checkpoint is not None and checkpoint.resume,
        "--warm-start": warm is not None,
        f"negative_rate {spec.negative_rate}": spec.negative_rate < 1,
    }
    if refused := [name for name, wanted in asked.items() if wanted]:
        raise ValueError(f"{TREES} takes no {refused[0]}: leave it out or name a module of the zoo")
