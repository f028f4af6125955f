import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from data_contracts.delong import auc_difference
from data_contracts.evidence import (
    LEAST_USERS,
    RANGES,
    Estimate,
    Metric,
    auc,
    bootstrap,
    calibration_error,
    effective_users,
    log_loss,
    metric_difference,
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


@given(st.permutations([0] * 30 + [1] * 10))
def test_one_score_for_all_errs_by_its_distance_from_their_mean_in_any_order(
    labels: list[int],
) -> None:
    assert calibration_error(np.array(labels), np.full(40, 0.25)) == pytest.approx(0.0)
    assert calibration_error(np.array(labels), np.full(40, 0.75)) == pytest.approx(0.5)


@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 15))
def test_a_calibration_error_does_not_depend_on_the_order_of_its_rows(
    rows: list[Any], random: Random, bins: int
) -> None:
    found = []
    for _ in range(2):
        labels = np.array([label for label, _ in rows])
        found.append(calibration_error(labels, np.array([s / 8 for _, s in rows]), bins))
        random.shuffle(rows)
    assert found[0] == found[1]


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


def test_a_calibration_that_is_worse_by_a_shift_is_told_from_chance() -> None:
    rng = np.random.default_rng(9)
    scores = rng.uniform(0.05, 0.3, 12_000)
    labels, users = rng.random(12_000) < scores, np.arange(12_000) // 4
    same = metric_difference(calibration_error, labels, scores, scores, users=users)
    assert Estimate(0.0, 0.0, 0.0, 12_000) == same
    rounded = metric_difference(calibration_error, labels, np.round(scores, 3), scores, users=users)
    assert rounded.low <= rounded.value <= rounded.high < 0.002
    shifted = metric_difference(calibration_error, labels, scores + 0.04, scores, users=users)
    assert 0.015 < shifted.low < shifted.value < shifted.high < 0.05
    nothing = metric_difference(calibration_error, labels[:0], scores[:0], scores[:0])
    assert 0 == nothing.n and nothing.value != nothing.value


@pytest.mark.parametrize("metric", [log_loss, calibration_error, auc])
def test_rows_that_a_user_repeats_tell_no_more_than_one_of_them(metric: Metric) -> None:
    labels, scores = calibrated(300)
    order = np.argsort(scores)
    labels, scores, users = labels[order], scores[order], np.repeat(np.arange(300), 4)
    often = labels.repeat(4), scores.repeat(4)
    once, repeated = bootstrap(metric, labels, scores), bootstrap(metric, *often, users=users)
    found = [(e.value, e.low, e.high) for e in (once, repeated)]
    assert found[0] == pytest.approx(found[1])
    naive = bootstrap(metric, *often)
    assert naive.high - naive.low < once.high - once.low


def test_a_difference_of_rows_that_users_repeat_is_as_wide_as_one_row_of_each_makes_it() -> None:
    labels, scores = calibrated(300)
    users, worse = np.repeat(np.arange(300), 4), scores**1.1
    once = paired_difference(labels, scores, worse)
    often = paired_difference(labels.repeat(4), scores.repeat(4), worse.repeat(4), users=users)
    assert (once.value, once.low, once.high) == pytest.approx((often.value, often.low, often.high))
    assert (300, 1200) == (once.n, often.n)


def returning(seed: int, count: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(users, labels, scores of two models that are equally good) of `count` users who come back.

    Users have rates of their own, and each is one that either model overrates.
    """
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(count), np.minimum(2 + rng.pareto(1.5, count) * 4, 40).astype(int))
    own, kind = rng.normal(-1.5, 1, count)[users], rng.choice([-0.5, 0.5], count)[users]
    row = rng.normal(0, 0.5, len(users))

    def rate(logit: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-logit))

    labels = (rng.random(len(users)) < rate(own + row)).astype(int)
    return users, labels, rate(row - 1.5 + kind), rate(row - 1.5 - kind)


@pytest.mark.parametrize(
    "interval",
    [
        lambda labels, one, two, users: paired_difference(labels, one, two, draws=200, users=users),
        lambda labels, one, two, users: auc_difference(labels, one, two, users=users),
    ],
    ids=["log loss", "AUC"],
)
def test_intervals_over_users_hold_where_users_come_back_and_those_over_rows_do_not(
    interval: Callable[..., Estimate],
) -> None:
    """Of 200 samples of two equal models, how often the interval of 95 % holds 0."""
    covered = {"users": 0, "rows": 0}
    for seed in range(200):
        users, labels, one, two = returning(seed)
        for name, by in (("users", users), ("rows", None)):
            found = interval(labels, one, two, by)
            covered[name] += found.low <= 0 <= found.high
    assert 200 * 0.90 <= covered["users"] <= 200 * 0.985, covered
    assert covered["rows"] < 200 * 0.85, covered


def test_with_users_enough_two_equal_models_are_seldom_told_apart_and_with_few_they_often_are() -> (
    None
):
    """Of 200 samples of two equal models, how often the interval of 95 % does not hold 0."""
    missed, effective = {}, {}
    for count in (1, 5, 45):
        samples = [returning(seed, count) for seed in range(200)]
        found = [paired_difference(*rows, draws=200, users=users) for users, *rows in samples]
        missed[count] = np.mean([not each.low <= 0 <= each.high for each in found])
        effective[count] = np.median([effective_users(len(s[0]), s[0]) for s in samples])
    assert 1 == effective[1] < effective[5] < LEAST_USERS
    assert effective[45] == pytest.approx(LEAST_USERS, abs=2)
    assert 1 == missed[1] > missed[5] > 0.10 > missed[45], missed


def test_users_count_by_their_rows_and_rows_without_users_each_for_one() -> None:
    assert 20 == effective_users(60, np.arange(60) % 20)
    assert 60 == effective_users(60, None)
    heavy = np.maximum(np.arange(1000) - 900, 0)
    assert effective_users(1000, heavy) == pytest.approx(1000**2 / (901**2 + 99))
    assert 0 == effective_users(0, None)
