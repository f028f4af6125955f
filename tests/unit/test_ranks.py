"""A fit on several devices is one fit, in processes that do nothing else."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.test_models import SPEC, data, rows, signal
from training.best_epoch import Checkpoint
from training.evaluate import predict
from training.fit import fit

ALONE = replace(SPEC, dropout=0.0, max_epochs=3, batch_size=100, gradient_clip=1.0)
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
