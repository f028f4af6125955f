"""A fit on several devices is one fit, in processes that do nothing else."""

import math
import signal as signal_of
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from data_contracts.model_spec import ModelSpec
from tests.unit.test_models import SPEC, data, rows, signal
from training.best_epoch import Checkpoint
from training.data import TrainingData
from training.evaluate import predict
from training.fit import fit

ALONE = replace(SPEC, dropout=0.0, max_epochs=3, batch_size=100, gradient_clip=1.0)
LONG = replace(ALONE, devices=2, batch_size=10, max_epochs=2)
MODEL, KEY = "dcn_v2", "these rows"
ROOT = Path(__file__).parents[2]
TRAIN, VALIDATION = rows(1001, 0, signal), rows(301, 1, signal)


def test_two_devices_fit_what_one_fits(tmp_path: Path) -> None:
    together = replace(ALONE, devices=2)
    told: list[tuple[int, int]] = []
    checkpoint = Checkpoint(tmp_path / "fit.ckpt", key="k")
    one = fit("dcn_v2", ALONE, data(TRAIN, VALIDATION, ALONE))
    two = fit(
        "dcn_v2",
        together,
        data(TRAIN, VALIDATION, together),
        lambda done, most: told.append((done, most)),
        checkpoint,
    )
    assert [(1, 3), (2, 3), (3, 3)] == told
    assert one.best.epoch == two.best.epoch
    for expected, found in zip(one.curve, two.curve, strict=True):
        assert expected.validation == pytest.approx(found.validation, abs=1e-5)
        assert expected.epoch == 0 or expected.train == pytest.approx(found.train, abs=1e-5)
    assert math.isfinite(two.best.validation)
    np.testing.assert_allclose(
        predict(one.model, VALIDATION), predict(two.model, VALIDATION), rtol=1e-3
    )
    assert ["fit.ckpt"] == [path.name for path in tmp_path.iterdir()]


def long_rows(spec: ModelSpec) -> TrainingData:
    """An epoch of them takes seconds."""
    return data(rows(4_000, 0, signal), VALIDATION, spec)


@pytest.mark.full
def test_no_rank_outlives_a_killed_fit_and_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    program = [sys.executable, "-m", "tests.unit.dying_ranks", str(path)]
    with subprocess.Popen(program, cwd=ROOT, text=True, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert "1\n" == child.stdout.readline()
        ranks = psutil.Process(child.pid).children(recursive=True)
        assert 2 == len(ranks)
        state = path.read_bytes()
        child.kill()
        assert -signal_of.SIGKILL == child.wait()
    assert [] == psutil.wait_procs(ranks, timeout=60)[1]
    assert state == path.read_bytes()
    resumed = fit(MODEL, LONG, long_rows(LONG), None, Checkpoint(path, True, KEY))
    undisturbed = fit(MODEL, LONG, long_rows(LONG))
    assert undisturbed.curve[1:] == resumed.curve[1:]
    theirs = resumed.model.state_dict()
    for name, each in undisturbed.model.state_dict().items():
        assert torch.equal(each, theirs[name])


@pytest.mark.full
def test_a_rank_that_fails_ends_the_fit_with_its_reason(tmp_path: Path) -> None:
    together = replace(ALONE, devices=2)
    torn = tmp_path / "fit.ckpt"
    torn.write_bytes(b"torn")
    with pytest.raises(RuntimeError, match=r"a fit on 2 devices ended: .+"):
        fit(
            "logistic",
            together,
            data(TRAIN, VALIDATION, together),
            None,
            Checkpoint(torn, True, "k"),
        )
    assert ["fit.ckpt"] == [path.name for path in tmp_path.iterdir()]
