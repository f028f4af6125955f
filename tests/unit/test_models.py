from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from dagster_project.commands import model as command
from data_contracts.encoding import Categorical
from data_contracts.evidence import auc
from data_contracts.use_case import ModelSpec
from training.data import Dataset, Rows, TrainingData
from training.evaluate import predict
from training.fit import fit
from training.models import MODELS, build_model

SPEC = ModelSpec(
    categorical=(Categorical("item_id", 40),),
    hidden=(16,),
    learning_rate=5e-3,
    batch_size=128,
    max_epochs=8,
)
EVERY_MODEL = pytest.mark.parametrize("name", sorted(MODELS))


def rows(n: int, seed: int, logit: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Rows:
    """Rows with ids 1 … 19 and two inputs, one of them of a long tail."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 20, (n, 1))
    dense = np.column_stack([rng.normal(size=n), rng.lognormal(3, 2, n)]).astype(np.float32)
    p = 1 / (1 + np.exp(-logit(ids[:, 0], dense)))
    return Rows(ids, dense, (rng.random(n) < p).astype(np.float32))


def signal(ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
    return np.where(ids < 10, -2.0, 0.0) + dense[:, 0]


def against_it(ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
    return -signal(ids, dense) - 2


def data(train: Rows, validation: Rows) -> TrainingData:
    splits = {"train": train, "validation": validation, "test": validation}
    return TrainingData(Dataset(splits, 0, ""), SPEC.batch_size, SPEC.seed)


@EVERY_MODEL
def test_an_untrained_model_answers_the_base_rate(name: str) -> None:
    train = rows(400, 0, signal)
    scores = predict(build_model(name, SPEC, train).eval(), train)
    assert np.ptp(scores) == 0
    assert scores[0] == pytest.approx(train.labels.mean(), abs=2e-3)


@EVERY_MODEL
def test_extreme_inputs_and_constant_columns_stay_finite(name: str) -> None:
    train = rows(400, 0, signal)
    train.dense[:, 1] = 7
    model = fit(name, SPEC, data(train, rows(200, 1, signal))).model
    extreme = np.array([[3e38, 7], [-3e38, 8], [0, -3e38]], np.float32)
    scores = predict(model, Rows(np.ones((3, 1), np.int64), extreme, np.zeros(3, np.float32)))
    assert np.isfinite(scores).all()


@EVERY_MODEL
def test_a_model_learns_what_the_rows_say(name: str) -> None:
    fitted = fit(name, SPEC, data(rows(3000, 0, signal), rows(1000, 1, signal)))
    later = rows(1000, 2, signal)
    assert auc(later.labels, predict(fitted.model, later)) > 0.75
    assert fitted.best.validation < fitted.curve[0].validation
    assert fitted.best.validation == min(epoch.validation for epoch in fitted.curve)


@EVERY_MODEL
def test_where_training_only_hurts_the_constant_is_kept(name: str) -> None:
    fitted = fit(name, SPEC, data(rows(2000, 0, signal), rows(1000, 1, against_it)))
    assert fitted.best.epoch == 0
    assert np.ptp(predict(fitted.model, rows(100, 2, signal))) == 0


@EVERY_MODEL
def test_training_rows_without_a_positive_can_be_fitted(name: str) -> None:
    train, validation = rows(300, 0, signal), rows(200, 1, signal)
    train.labels[:] = 0
    scores = predict(fit(name, SPEC, data(train, validation)).model, validation)
    assert (scores > 0).all()
    assert (scores < 0.05).all()


def test_ids_that_training_never_saw_are_neutral() -> None:
    model = fit("dcn_v2", SPEC, data(rows(3000, 0, signal), rows(1000, 1, signal))).model
    unseen = np.arange(20, 40)[:, None]
    same = np.zeros((20, 2), np.float32)
    scores = predict(model, Rows(unseen, same, np.zeros(20, np.float32)))
    assert np.ptp(np.log(scores / (1 - scores))) < 0.2


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_generator_alone() -> None:
    training = data(rows(500, 0, signal), rows(200, 1, signal))
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    first = fit("dcn_v2", SPEC, training)
    assert torch.equal(before, torch.random.get_rng_state())
    again = fit("dcn_v2", SPEC, training)
    other = fit("dcn_v2", replace(SPEC, seed=8), training)
    assert first.curve[1:] == again.curve[1:]
    assert first.curve[1:] != other.curve[1:]


def test_progress_is_told_epoch_by_epoch() -> None:
    told: list[tuple[int, int]] = []
    training = data(rows(300, 0, signal), rows(200, 1, signal))
    fitted = fit("logistic", SPEC, training, lambda done, most: told.append((done, most)))
    assert told == [(epoch.epoch, 8) for epoch in fitted.curve[1:]]


def test_a_model_outside_the_zoo_is_named_with_those_inside() -> None:
    with pytest.raises(ValueError, match=r"'resnet'.*dcn_v2, logistic"):
        build_model("resnet", SPEC, rows(10, 0, signal))


def test_the_command_names_exactly_the_models_of_the_zoo() -> None:
    assert sorted(MODELS) == sorted(command.MODELS)
