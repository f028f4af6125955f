"""Hyper-parameter search on the validation rows: Optuna's only file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from data_contracts.model_spec import ModelSpec
from training.data import Dataset, TrainingData
from training.fit import fit
from training.models.names import TREES

HIDDEN = {"32": (32,), "64-32": (64, 32), "128-64": (128, 64), "256-128-64": (256, 128, 64)}


@dataclass(frozen=True)
class Tried:
    """A trial of a search."""

    choices: Mapping[str, Any]
    validation: float
    """Log loss (nats) of its best epoch; infinite where no epoch has a finite one."""
    curve: tuple[float, ...]
    """The same after each epoch, from epoch 0; empty where none is finite."""


@dataclass(frozen=True)
class Search:
    """What the best trial chose in place of what is declared, and all trials, the declared spec as
    the first."""

    choices: Mapping[str, Any]
    trials: tuple[Tried, ...]


def search(
    name: str,
    spec: ModelSpec,
    dataset: Dataset,
    trials: int,
    tell: Callable[[int], None] | None = None,
) -> Search:
    """Fit `trials` specs of model `name`; TPE (Bergstra et al. 2011) seeded by `spec.seed`.

    The first trial is the declared spec, so the best is never worse on the validation rows. A fit
    without a finite loss counts as infinitely bad. ValueError for trees, which take no spec.
    """
    if name == TREES:
        raise ValueError(f"--search: {TREES} takes none of the searched choices: name a module")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=spec.seed))
    runs: list[Tried] = []
    for number in range(trials):
        trial = None if number == 0 else study.ask()
        choices = {} if trial is None else _choices(trial)
        tried = _tried(name, replace(spec, **choices), dataset, choices)
        if trial is not None:
            study.tell(trial, tried.validation)
        runs.append(tried)
        if tell:
            tell(number + 1)
    best = min(runs, key=lambda tried: tried.validation)
    return Search(best.choices, tuple(runs))


def _tried(name: str, spec: ModelSpec, dataset: Dataset, choices: Mapping[str, Any]) -> Tried:
    try:
        fitted = fit(name, spec, TrainingData(dataset, spec))
    except FloatingPointError:
        return Tried(choices, float("inf"), ())
    curve = tuple(epoch.validation for epoch in fitted.curve)
    return Tried(choices, fitted.best.validation, curve)


def _choices(trial: Any) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 2e-4, 1e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 3e-2, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "hidden": HIDDEN[trial.suggest_categorical("hidden", list(HIDDEN))],
        "cross_layers": trial.suggest_int("cross_layers", 1, 3),
        "batch_size": trial.suggest_categorical("batch_size", [256, 512, 1024]),
    }
