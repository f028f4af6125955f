import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from data_contracts.bundle import GRAPH, check_golden
from data_contracts.encoding import Categorical
from data_contracts.evidence import auc
from data_contracts.model_spec import ModelSpec
from training.batches import Rows
from training.data import Dataset, TrainingData
from training.engine import Engine
from training.evaluate import predict
from training.export import BATCHES, write_graph
from training.fit import fit
from training.models.names import MODELS, NEURAL
from training.models.zoo import BUILD, build_model

SPEC = ModelSpec(
    categorical=(Categorical("item_id", 40, min_count=3), Categorical("user_id", 30)),
    item=("item_id",),
    hidden=(16, 8),
    learning_rate=5e-3,
    batch_size=128,
    max_epochs=8,
)
EVERY_MODEL = pytest.mark.parametrize("name", MODELS)
EVERY_MODULE = pytest.mark.parametrize("name", NEURAL)


def rows(n: int, seed: int, logit: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Rows:
    """Rows with ids 1 … 19 and two inputs, one of them of a long tail."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 20, (n, 2))
    dense = np.column_stack([rng.normal(size=n), rng.lognormal(3, 2, n)]).astype(np.float32)
    p = 1 / (1 + np.exp(-logit(ids[:, 0], dense)))
    return Rows(ids, dense, (rng.random(n) < p).astype(np.float32))


def signal(ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
    return np.where(ids < 10, -2.0, 0.0) + dense[:, 0]


def against_it(ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
    return -signal(ids, dense) - 2


def interaction(ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
    """Neither the id nor the number says anything alone."""
    return np.where(ids < 10, 2.5, -2.5) * np.sign(dense[:, 0])


def data(train: Rows, validation: Rows, spec: ModelSpec = SPEC) -> TrainingData:
    splits = {"train": train, "validation": validation, "test": validation}
    return TrainingData(Dataset(splits, 0, "", item=(1,)), spec)


def untrained(name: str, train: Rows, spec: ModelSpec = SPEC) -> nn.Module:
    return build_model(name, spec, data(train, train).dataset.seen(spec)).eval()


@EVERY_MODULE
def test_an_untrained_model_answers_the_base_rate(name: str) -> None:
    train = rows(400, 0, signal)
    scores = predict(untrained(name, train), train)
    assert np.ptp(scores) == 0
    assert scores[0] == pytest.approx(train.labels.mean(), abs=2e-3)


@EVERY_MODULE
def test_gradients_reach_every_parameter(name: str) -> None:
    train = rows(400, 0, signal)
    model = untrained(name, train).train()
    ids, dense, labels = map(torch.from_numpy, (train.ids, train.dense, train.labels))
    reached: set[str] = set()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(model(ids, dense), labels).backward()
        reached |= {
            name
            for name, each in model.named_parameters()
            if each.grad is not None and bool(each.grad.any())
        }
        optimiser.step()
    assert {name for name, _ in model.named_parameters()} == reached


@EVERY_MODEL
def test_the_exported_graph_agrees_at_every_batch_size(name: str, tmp_path: Path) -> None:
    train = rows(600, 0, interaction)
    model = fit(name, replace(SPEC, max_epochs=2), data(train, rows(300, 1, interaction))).model
    some = rows(max(BATCHES), 2, interaction)
    some.ids[:3] = [[0, 0], [39, 29], [25, 25]]
    write_graph(model, 2, 2, tmp_path / GRAPH)
    engine, expected = Engine(tmp_path), predict(model, some)
    for size in BATCHES:
        check_golden(expected[:size], engine.score(some.ids[:size], some.dense[:size]))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "logistic"])
def test_a_planted_interaction_is_learned_that_logistic_cannot_see(name: str) -> None:
    spec = replace(SPEC, learning_rate=2e-2, max_epochs=12, patience=6)
    train, later = rows(3000, 0, interaction), rows(1000, 2, interaction)
    training = data(train, rows(1000, 1, interaction))
    assert auc(later.labels, predict(fit("logistic", spec, training).model, later)) < 0.6
    assert auc(later.labels, predict(fit(name, spec, training).model, later)) > 0.75


def test_rare_ids_share_the_row_out_of_vocabulary() -> None:
    train = rows(2000, 0, signal)
    train.ids[:2, 0], train.ids[2:5, 0] = 30, 31
    model = untrained("logistic", train)
    row = dict(model.named_buffers())["weights.tables.0.row"].tolist()
    assert (40, 31, 40, 5) == (row[30], row[31], row[35], row[5])


@EVERY_MODEL
def test_extreme_inputs_and_constant_columns_stay_finite(name: str) -> None:
    train = rows(400, 0, signal)
    train.dense[:, 1] = 7
    model = fit(name, SPEC, data(train, rows(200, 1, signal))).model
    extreme = np.array([[3e38, 7], [-3e38, 8], [0, -3e38]], np.float32)
    scores = predict(model, Rows(np.ones((3, 2), np.int64), extreme, np.zeros(3, np.float32)))
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
    unseen = np.column_stack([np.arange(20, 40), np.full(20, 3)])
    same = np.zeros((20, 2), np.float32)
    scores = predict(model, Rows(unseen, same, np.zeros(20, np.float32)))
    assert np.ptp(scores) == 0


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_generator_alone() -> None:
    training = data(rows(500, 0, signal), rows(200, 1, signal))
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    first = fit("dcn_v2", SPEC, training)
    assert torch.equal(before, torch.random.get_rng_state())
    again = fit("dcn_v2", SPEC, training)
    changed = replace(SPEC, seed=8)
    other = fit("dcn_v2", changed, data(rows(500, 0, signal), rows(200, 1, signal), changed))
    assert first.curve[1:] == again.curve[1:]
    assert first.curve[1:] != other.curve[1:]


def test_progress_is_told_epoch_by_epoch() -> None:
    told: list[tuple[int, int]] = []
    training = data(rows(300, 0, signal), rows(200, 1, signal))
    fitted = fit("logistic", SPEC, training, lambda done, most: told.append((done, most)))
    assert told == [(epoch.epoch, 8) for epoch in fitted.curve[1:]]


def test_a_model_outside_the_zoo_is_named_with_those_inside() -> None:
    with pytest.raises(ValueError, match=r"'resnet'.*dcn_v2, deepfm"):
        untrained("resnet", rows(10, 0, signal))


def test_towers_without_a_declared_item_are_refused() -> None:
    train = rows(10, 0, signal)
    with pytest.raises(ValueError, match=r"two_tower.*name the item's fields"):
        build_model(
            "two_tower", replace(SPEC, item=()), Dataset({"train": train}, 0, "").seen(SPEC)
        )


def test_the_zoo_builds_exactly_the_modules_it_names() -> None:
    assert sorted(BUILD) == sorted(NEURAL)


def test_naming_the_models_loads_nothing() -> None:
    program = "import sys, training.models.names; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert set() == {"torch", "numpy", "lightgbm", "pydantic"} & set(told.stdout.split())
