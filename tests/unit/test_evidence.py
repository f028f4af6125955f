import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.evidence import auc, bootstrap, calibration_error, log_loss

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=40)


@given(ROWS)
def test_auc_equals_the_share_of_pairs_in_order_with_ties_at_half(rows: list[Any]) -> None:
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for good, a in rows
        if good
        for bad, b in rows
        if not bad
    ]
    found = auc(np.array([r[0] for r in rows]), np.array([r[1] / 8 for r in rows]))
    if wins:
        assert found == pytest.approx(sum(wins) / len(wins), abs=1e-12)
    else:
        assert math.isnan(found)


def test_log_loss_of_a_sure_mistake_is_finite() -> None:
    assert log_loss(np.array([1, 0]), np.array([0.0, 1.0])) == pytest.approx(-math.log(1e-7))


def test_a_calibrated_score_has_no_calibration_error() -> None:
    labels = np.array([1, 0, 0, 0] * 50)
    assert calibration_error(labels, np.full(200, 0.25), bins=5) == pytest.approx(0.0)
    assert calibration_error(labels, np.full(200, 0.75), bins=5) == pytest.approx(0.5)


def test_the_bootstrap_of_nothing_and_of_one_class_says_that_it_does_not_know() -> None:
    nothing = bootstrap(auc, np.array([]), np.array([]))
    one_class = bootstrap(auc, np.zeros(9), np.linspace(0, 1, 9), draws=20)
    expected = {"value": None, "low": None, "high": None}
    assert expected | {"n": 0} == nothing.as_dict()
    assert expected | {"n": 9} == one_class.as_dict()


def test_the_bootstrap_is_the_same_every_time_and_holds_its_value() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(400)
    labels = rng.random(400) < scores
    first = bootstrap(auc, labels, scores, draws=50)
    assert first == bootstrap(auc, labels, scores, draws=50)
    assert first.low < first.value < first.high
