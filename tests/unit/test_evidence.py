import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from data_contracts.evidence import (
    RANGES,
    Estimate,
    Metric,
    auc,
    bootstrap,
    calibration_error,
    log_loss,
    paired_difference,
)

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


@pytest.mark.parametrize("metric", RANGES)
def test_an_interval_stays_within_the_range_of_its_metric(metric: Metric) -> None:
    low, high = RANGES[metric]
    rng = np.random.default_rng(2)
    for n in (4, 12, 40):
        labels = np.arange(n) % 4 == 0
        for scores in (labels * 0.9 + 0.05, rng.random(n), np.where(labels, 1.0, rng.random(n))):
            found = bootstrap(metric, labels, scores, draws=60)
            assert low <= found.low <= found.high <= high


def test_an_interval_that_the_shift_leads_past_one_ends_there() -> None:
    scores = np.random.default_rng(6).random(12).round(2)
    found = bootstrap(auc, np.arange(12) % 4 == 0, scores)
    assert found.low < found.value < found.high == 1.0


def calibrated(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from their own scores."""
    rng = np.random.default_rng(3)
    scores = rng.beta(1, 6, n)
    return (rng.random(n) < scores).astype(np.int32), scores


@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_auc_and_log_loss_equal_sklearns_also_with_ties(decimals: int) -> None:
    labels, scores = calibrated(4000)
    scores = scores.round(decimals).clip(0.01, 0.99)
    assert auc(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    assert log_loss(labels, scores) == pytest.approx(metrics.log_loss(labels, scores), abs=1e-12)


def test_a_model_differs_from_itself_by_exactly_nothing() -> None:
    labels, scores = calibrated(500)
    assert paired_difference(labels, scores, scores) == Estimate(0.0, 0.0, 0.0, 500)


def test_pairing_finds_a_difference_that_two_separate_intervals_hide() -> None:
    labels, scores = calibrated(2000)
    worse = np.clip(scores * 1.15, 0, 1)
    apart = [bootstrap(log_loss, labels, each) for each in (scores, worse)]
    assert apart[0].high > apart[1].low
    assert paired_difference(labels, scores, worse).high < 0
