"""A fit goes on after kill -9, from a champion's weights, and on a sample of the negatives."""

import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_contracts.evidence import log_loss
from data_contracts.model_spec import ModelSpec
from tests.unit.test_models import SPEC as PLAIN
from tests.unit.test_models import data, rows
from tests.unit.test_models import signal as said
from training.batches import BUFFER, WINDOW, InOrder, Rows, Shuffled
from training.best_epoch import Checkpoint
from training.data import TrainingData
from training.evaluate import predict
from training.fit import fit
from training.fitted import Fitted
from training.models.zoo import build_model
from training.schedule import cosine
from training.warm import warm_state, write_weights

MODEL, KEY = "dcn_v2", "these rows"
SPEC = replace(PLAIN, max_epochs=5, patience=5, schedule="cosine", gradient_clip=1.0)
ROOT = Path(__file__).parents[2]


def training(spec: ModelSpec = SPEC) -> TrainingData:
    return data(rows(1500, 0, said), rows(500, 1, said), spec)


def assert_same(expected: Fitted, found: Fitted) -> None:
    assert expected.curve[1:] == found.curve[1:]
    assert expected.best == found.best
    theirs = found.model.state_dict()
    assert all(
        torch.equal(each, theirs[name]) for name, each in expected.model.state_dict().items()
    )


def test_a_killed_fit_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    program = [sys.executable, "-m", "tests.unit.dying_fit", str(path)]
    with subprocess.Popen(
        program, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert ["1\n", "2\n"] == [child.stdout.readline() for _ in range(2)]
        child.kill()
        assert -signal.SIGKILL == child.wait()
    told: list[int] = []
    resumed = fit(
        MODEL, SPEC, training(), lambda done, _: told.append(done), Checkpoint(path, True, KEY)
    )
    assert told[0] > 2 and told[-1] == 5
    undisturbed = fit(MODEL, SPEC, training())
    assert_same(undisturbed, resumed)
    again = fit(MODEL, SPEC, training(), None, Checkpoint(path, True, KEY))
    assert_same(undisturbed, again)
    with pytest.raises(ValueError, match="left by other data or choices: train without --resume"):
        fit(MODEL, SPEC, training(), None, Checkpoint(path, True, "other rows"))


def test_the_state_of_an_epoch_is_whole_until_the_next_one_stands_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, first = tmp_path / "fit.ckpt", tmp_path / "first"
    content: list[bytes] = []

    def tell(_: int, __: int) -> None:
        content.append(path.read_bytes())
        if not first.exists():
            first.hardlink_to(path)

    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        assert tmp_path.stat().st_dev != Path(other).stat().st_dev
        monkeypatch.setattr(tempfile, "tempdir", other)
        fit(MODEL, replace(SPEC, max_epochs=2), training(), tell, Checkpoint(path, key=KEY))
    assert content == [first.read_bytes(), path.read_bytes()]
    assert content[0] != content[1]
    assert {path, first} == {*tmp_path.iterdir()}


def test_a_warm_start_answers_as_the_champion_and_admits_new_ids(tmp_path: Path) -> None:
    champion = fit(MODEL, PLAIN, data(rows(1500, 0, said), rows(500, 1, said), PLAIN)).model
    write_weights(champion, tmp_path)
    later = rows(1500, 5, said)
    later.ids[:50, 0] = 33
    own = build_model(MODEL, PLAIN, data(later, later).dataset.seen(PLAIN)).eval()
    own.load_state_dict(warm_state(tmp_path, own))
    np.testing.assert_allclose(predict(champion, later), predict(own, later), rtol=1e-6)
    assert 33 == dict(own.named_buffers())["inputs.embeddings.tables.0.row"][33]
    wider = build_model(MODEL, replace(PLAIN, hidden=(8,)), data(later, later).dataset.seen(PLAIN))
    with pytest.raises(ValueError, match=r"deep\.0\.bias is missing or of another shape"):
        warm_state(tmp_path, wider)


def test_a_fit_on_sampled_negatives_is_as_good_and_as_calibrated_as_on_all() -> None:
    rare = lambda ids, dense: said(ids, dense) - 2  # noqa: E731
    train, later = rows(12_000, 0, rare), rows(4_000, 2, rare)
    losses: list[float] = []
    for rate in (1.0, 0.2):
        spec = replace(PLAIN, negative_rate=rate, max_epochs=4)
        fitted = fit("logistic", spec, data(train, rows(2_000, 1, rare), spec))
        scores = predict(fitted.model, later)
        losses.append(log_loss(later.labels, scores))
        constant = np.full(2_000, train.labels.mean()), rows(2_000, 1, rare).labels
        first = fitted.curve[0].validation
        assert log_loss(constant[1], constant[0]) == pytest.approx(first, abs=1e-3)
        assert later.labels.mean() == pytest.approx(scores.mean(), rel=0.15)
    assert losses[0] == pytest.approx(losses[1], abs=0.003)


def test_a_sampled_epoch_is_as_long_and_draws_its_negatives_anew() -> None:
    plain = counted(20_000)
    plain.labels[:1000] = 1
    epochs = [
        [(ids[:, 0], len(labels)) for ids, _, labels in Shuffled(plain, 500, (7, epoch), 0.1)]
        for epoch in (0, 0, 1)
    ]
    ids = [torch.cat([each for each, _ in epoch]).numpy() for epoch in epochs]
    assert np.array_equal(ids[0], ids[1])
    assert len(epochs[0]) == len(Shuffled(plain, 500, (7, 0), 0.1))
    assert 20_000 == pytest.approx(len(ids[0]), rel=0.05)
    times = np.bincount(ids[0], minlength=20_000)
    assert {7} == set(times[:1000])
    negatives = [set(each[each >= 1000]) for each in (ids[0], ids[2])]
    assert 1 - 0.9**7 == pytest.approx(len(negatives[0]) / 19_000, abs=0.02)
    assert 1 - 0.9**14 == pytest.approx(len(negatives[0] | negatives[1]) / 19_000, abs=0.02)


def counted(n: int) -> Rows:
    ids = np.arange(n)[:, None]
    return Rows(ids, np.zeros((n, 1), np.float32), np.zeros(n, np.float32))


@pytest.mark.parametrize("n", [1, 1000, WINDOW * BUFFER + 777])
def test_an_epoch_holds_every_row_once_in_an_order_of_its_own(n: int) -> None:
    orders = [
        np.concatenate([ids[:, 0].numpy() for ids, _, _ in Shuffled(counted(n), 300, (7, epoch))])
        for epoch in (0, 0, 1)
    ]
    assert np.array_equal(orders[0], orders[1])
    assert n == 1 or not np.array_equal(orders[0], orders[2])
    assert np.array_equal(np.sort(orders[0]), np.arange(n))
    sizes = [len(labels) for _, _, labels in Shuffled(counted(n), 300, (7, 0))]
    assert -(-n // 300) == len(sizes) == len(Shuffled(counted(n), 300, (7, 0)))


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_devices_share_every_batch_of_one_order(rate: float) -> None:
    def epoch(*share: int) -> list[torch.Tensor]:
        return [ids for ids, _, _ in Shuffled(counted(5002), 300, (7, 0), rate, (*share,))]

    whole, *parts = epoch(0, 1), *(epoch(device, 3) for device in range(3))
    assert all(
        torch.equal(batch, torch.cat(split)) for batch, *split in zip(whole, *parts, strict=True)
    )
    assert max(len(part[0]) for part in parts) - min(len(part[0]) for part in parts) <= 1
    validation = [list(InOrder(counted(7), 5, (device, 3))) for device in range(3)]
    assert 7 == sum(len(labels) for part in validation for _, _, labels in part)


def test_a_cosine_rises_falls_and_ends_near_zero() -> None:
    rates = [cosine(step, 100) for step in range(100)]
    assert (0.2, 1.0) == (rates[0], max(rates)) and rates[-1] < 0.01
