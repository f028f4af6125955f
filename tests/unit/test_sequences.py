from math import comb, sqrt

import numpy as np
import pytest
import ville

from data_contracts.sequences import (
    LEAST_UNITS,
    Split,
    arm_difference,
    boundary,
    interval,
    paired_gap,
    precision,
    sample_ratio,
)
from tests.benchmarks.releases import ANY, FAILING, SAME, SERVICE, WORSE, Shop, watch

ALPHA, TUNED = 0.02, 3_000.0


def test_the_boundary_equals_villes_normal_mixture_and_its_precision_is_the_best() -> None:
    assert precision(TUNED, ALPHA) == pytest.approx(ville.best_rho(TUNED, ALPHA), rel=1e-3)
    for time in (1.0, 250.0, 3_000.0, 1e6):
        expected = ville.normal_mixture(time, ALPHA, precision(TUNED, ALPHA))
        assert boundary(time, ALPHA, TUNED) * sqrt(time) == pytest.approx(expected, rel=1e-12)


def test_with_one_impression_a_unit_the_interval_is_villes_asymptotic_sequence() -> None:
    gaps = np.random.default_rng(4).standard_t(5, 4_000) * 0.1 + 0.003
    theirs = ville.AsymptoticCS(alpha=ALPHA, t_opt=int(TUNED)).update(gaps)
    for n in (LEAST_UNITS, 1_000, 4_000):
        ones, units = np.ones(n), np.arange(n)
        found = interval(paired_gap(units, gaps[:n], ones, ones), ALPHA, TUNED)
        low, high = theirs.lower_[n - 1], theirs.upper_[n - 1]
        assert found.value == pytest.approx((low + high) / 2)
        # Theirs divides the squares by n - 1.
        wider = sqrt(n / (n - 1))
        assert (found.high - found.low) * wider == pytest.approx(high - low, rel=1e-4)


def test_arms_are_compared_within_strata_and_a_user_is_one_draw() -> None:
    rng, n = np.random.default_rng(8), 3_000
    units, strata = rng.integers(0, 900, n), rng.integers(0, 5, n)
    candidate = (units % 4 == 0) & (strata > 0)
    impressions = rng.integers(1, 9, n)
    clicks = rng.binomial(impressions, 0.1)
    found = arm_difference(units.astype(str), strata, candidate, impressions, clicks)
    total = weight = level = 0.0
    shares = np.zeros(900)
    for stratum in range(1, 5):
        arms = [(strata == stratum) & (candidate == arm) for arm in (False, True)]
        shown = [impressions[arm].sum() for arm in arms]
        rates = [clicks[arm].sum() / n for arm, n in zip(arms, shown, strict=True)]
        weighs = shown[0] * shown[1] / sum(shown)
        weight += weighs
        level += weighs * rates[0]
        total += weighs * (rates[1] - rates[0])
        rate = clicks[strata == stratum].sum() / sum(shown)
        for arm, n, sign in zip(arms, shown, (-1, 1), strict=True):
            np.add.at(shares, units[arm], sign * weighs / n * (clicks - rate * impressions)[arm])
    assert found.difference == pytest.approx(total / weight)
    assert found.champion == pytest.approx(level / weight)
    assert found.variance == pytest.approx((shares**2).sum())
    assert found.units == tuple(len(set(units[candidate == arm])) for arm in (False, True))
    assert found.impressions == impressions.sum()


def test_two_hundred_units_an_arm_or_no_judgement() -> None:
    for many, finite in ((LEAST_UNITS, True), (LEAST_UNITS - 1, False)):
        units = np.arange(2_000)
        candidate = units < many
        ones = np.ones(2_000)
        sums = arm_difference(units, units * 0, candidate, ones, (units % 9 == 0) * 1)
        found = interval(sums, ALPHA, TUNED)
        assert sums.judgeable == finite == np.isfinite(found.low) == np.isfinite(found.high)


def test_without_an_arm_or_a_row_there_is_no_difference() -> None:
    nothing = np.zeros(0)
    empty = arm_difference(nothing, nothing, nothing > 0, nothing, nothing)
    alone = arm_difference(np.arange(9), np.zeros(9), np.arange(9) < 0, np.ones(9), np.ones(9))
    for sums in (empty, alone):
        assert np.isnan(sums.difference) and not sums.judgeable
    assert not paired_gap(nothing, nothing, nothing, nothing).judgeable


@pytest.mark.parametrize(("share", "units"), [(0.01, 120), (0.25, 40), (0.5, 7)])
def test_the_sample_ratio_is_worth_one_on_average_where_the_split_is_true(
    share: float, units: int
) -> None:
    mean = sum(
        comb(units, x)
        * share**x
        * (1 - share) ** (units - x)
        * sample_ratio([Split(share, x, units)])
        for x in range(units + 1)
    )
    assert mean == pytest.approx(1.0)


def test_lost_users_show_in_the_sample_ratio_and_epochs_multiply() -> None:
    true, lost = Split(0.25, 2_500, 10_000), Split(0.25, 2_200, 10_000)
    assert sample_ratio([true]) < 1
    assert sample_ratio([lost]) > 1_000
    product = sample_ratio([true]) * sample_ratio([lost])
    assert sample_ratio([true, lost]) == pytest.approx(product)
    assert sample_ratio([Split(0.5, 90_000, 90_000)]) == float("inf")
    assert sample_ratio([]) == 1


def test_releases_without_a_fault_seldom_ring_and_one_with_fewer_clicks_does() -> None:
    shop = Shop(users=3_000, impressions=1_200)
    same = watch(shop, SAME, range(30), seed=3, alpha=0.05)
    worse = watch(shop, WORSE, range(12), seed=3, alpha=0.05)
    failing = watch(shop, FAILING, range(4), seed=3, alpha=0.05)
    assert sum(each[ANY] >= 0 for each in same) <= 2
    assert sum(each["10 % below, at every look"] >= 0 for each in same) >= 10
    assert sum(each["CTR sequence"] >= 0 for each in worse) >= 11
    assert sum(each[SERVICE] >= 0 for each in failing) == 4
