"""What a spec says of a fit is done: when it stops, its steps, their precision."""

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils import clip_grad_norm_

from data_contracts.encoding import Categorical
from data_contracts.evidence import log_loss
from data_contracts.model_spec import ModelSpec
from data_contracts.use_case import load_use_case
from tests.unit.test_models import SPEC, against_it, data, rows, signal, untrained
from training.best_epoch import Checkpoint
from training.data import TrainingData
from training.evaluate import predict
from training.fit import fit
from training.fitted import better_untrained
from training.models.inputs import dimensions, one_dimension
from training.models.zoo import build_model
from training.module import CtrModule

TRAIN, VALIDATION = rows(1500, 0, signal), rows(500, 1, signal)


def test_a_fit_stops_after_so_many_epochs_without_a_better_one() -> None:
    spec = replace(SPEC, max_epochs=30, patience=3)
    worse = rows(500, 1, against_it)
    curve = fit("logistic", spec, data(TRAIN, worse, spec)).curve
    best = min(curve[1:], key=lambda epoch: epoch.validation)
    assert best.epoch + 3 == curve[-1].epoch < 30


@pytest.mark.parametrize("clip", [None, 0.05])
def test_the_steps_are_those_of_a_plain_loop(clip: float | None) -> None:
    spec = replace(SPEC, dropout=0.0, max_epochs=1, gradient_clip=clip)
    training = data(TRAIN, VALIDATION, spec)
    fitted = fit("dcn_v2", spec, training)
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        model = build_model("dcn_v2", spec, training.dataset.seen(spec)).train()
    optimiser = CtrModule(model, spec).configure_optimizers()
    norms: list[float] = []
    for ids, dense, labels in TrainingData(training.dataset, spec).train_dataloader():
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(model(ids, dense), labels).backward()
        norms.append(float(clip_grad_norm_(model.parameters(), clip or float("inf"))))
        optimiser.step()
    assert max(norms) > 0.05
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(fitted.model.state_dict()[name], expected, rtol=1e-5, atol=1e-7)


def test_gradients_are_clipped_to_the_declared_norm() -> None:
    losses = []
    for norm in (None, 1e-14):
        spec = replace(SPEC, max_epochs=1, gradient_clip=norm, weight_decay=0.0)
        curve = fit("logistic", spec, data(TRAIN, VALIDATION, spec)).curve
        losses.append(curve[0].validation - curve[1].validation)
    assert losses[0] > 0.005
    # Below its epsilon, AdamW no longer takes a gradient's size out of its steps.
    assert 0.0 == pytest.approx(losses[1], abs=1e-5)


def test_the_schedule_sets_the_rate_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def still(step: int, steps: int) -> float:
        asked.append((step, steps))
        return 0.0

    monkeypatch.setattr("training.module.cosine", still)
    spec = replace(SPEC, schedule="cosine", max_epochs=2, weight_decay=0.0)
    fitted = fit("logistic", spec, data(TRAIN, VALIDATION, spec))
    steps = 2 * -(-1500 // SPEC.batch_size)
    assert {(step, steps) for step in range(steps + 1)} == set(asked)
    assert fitted.curve[0].validation == fitted.curve[2].validation


def test_steps_in_half_precision_are_judged_in_full() -> None:
    spec = replace(SPEC, precision="bf16-mixed", max_epochs=3)
    training = data(TRAIN, VALIDATION, spec)
    half, full = (fit("dcn_v2", each, training) for each in (spec, replace(SPEC, max_epochs=3)))
    assert half.curve[1].train != full.curve[1].train
    assert full.best.validation == pytest.approx(half.best.validation, abs=0.01)
    scores = predict(half.model, VALIDATION)
    assert log_loss(VALIDATION.labels, scores) == pytest.approx(half.best.validation, abs=1e-6)


def test_trees_refuse_by_name_what_they_cannot_do(tmp_path: Path) -> None:
    training = data(TRAIN, VALIDATION)
    sampled = replace(SPEC, negative_rate=0.5)
    with pytest.raises(ValueError, match=r"^lightgbm takes no negative_rate 0\.5: leave it out"):
        fit("lightgbm", sampled, data(TRAIN, VALIDATION, sampled))
    with pytest.raises(ValueError, match=r"^lightgbm takes no --resume"):
        fit("lightgbm", SPEC, training, None, Checkpoint(tmp_path / "state", resume=True))
    with pytest.raises(ValueError, match=r"^lightgbm takes no --warm-start"):
        fit("lightgbm", SPEC, training, warm=tmp_path)


def test_an_embedding_is_as_wide_as_it_or_the_model_or_the_rule_says() -> None:
    buckets = (2, 25, 256, 1024, 1_000_000, 10**9)
    columns = tuple(Categorical(f"f{count}", count) for count in buckets)
    assert [4, 8, 8, 12, 64, 64] == dimensions(ModelSpec(columns))
    own = (Categorical("own", 1024, dim=5), columns[1])
    assert [5, 16] == dimensions(ModelSpec(own, embedding_dim=16))
    assert (8, 8) == (one_dimension(ModelSpec(own)), one_dimension(ModelSpec(())))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"schedule": "linear"}, "model: schedule 'linear': constant or cosine"),
        ({"negative_rate": 0.0}, "model: negative_rate 0.0: above 0, at most 1"),
        ({"max_epochs": 0}, "model: max_epochs 0: at least 1"),
        ({"batch_size": 0}, "model: batch_size 0: at least 1"),
        ({"hidden": ()}, "model: hidden (): name the width of each layer"),
        ({"dropout": 1.0}, "model: dropout 1.0: at least 0, below 1"),
        (
            {"learning_rate": 0.0, "weight_decay": 0.0},
            "model: learning_rate 0.0, weight_decay 0.0: above 0, at least 0",
        ),
        ({"gradient_clip": 0.0}, "model: gradient_clip 0.0: above 0, or None to clip nothing"),
        ({"embedding_dim": 0}, "model: embedding_dim 0: at least 1"),
        ({"precision": "fp16"}, "model: precision 'fp16': 32-true or bf16-mixed or 16-mixed"),
        ({"precision": "16-mixed"}, "model: precision '16-mixed' on a cpu: bf16-mixed or 32-true"),
        ({"accelerator": "cuda"}, "model: accelerator 'cuda': cpu or gpu"),
        ({"devices": 0}, "model: devices 0: at least 1, at most batch_size 512"),
        ({"batch_size": 2, "devices": 3}, "model: devices 3: at least 1, at most batch_size 2"),
    ],
)
def test_a_spec_that_cannot_be_fitted_is_refused_by_field(
    wrong: dict[str, object], said: str
) -> None:
    clicks = load_use_case("clicks")
    spec = replace(clicks.model, **wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        spec.check(clicks.contract, [group.name for group in clicks.groups])


def test_rows_of_one_user_cannot_show_that_training_made_things_worse() -> None:
    validation = rows(800, 1, signal)
    base = untrained("logistic", TRAIN)
    worse = deepcopy(base)
    state = base.state_dict()
    worse.load_state_dict({**state, "linear.bias": state["linear.bias"] + 1})
    apart = data(TRAIN, validation).dataset
    assert better_untrained(worse, base, apart)
    users = np.empty(800, np.int64)
    users[np.argsort(validation.labels)] = np.arange(800) // 200
    assert not better_untrained(worse, base, replace(apart, users={"validation": users}))
    for count, known in ((4, False), (20, True)):
        users = np.arange(800) % count
        assert known == better_untrained(worse, base, replace(apart, users={"validation": users}))
