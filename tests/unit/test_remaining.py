"""How long a release still takes: told early, it has to come true."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from data_contracts.clock import format_time
from data_contracts.evidence import log_losses
from data_contracts.exposure import APART, Traffic, weights
from data_contracts.gate_rules import DEFAULTS, Rule, effective
from data_contracts.gates import Check, decision, failures_check, ratio_check, sequence_check
from data_contracts.lake import Lake
from data_contracts.remaining import Remaining, remaining
from data_contracts.sequences import Failures, Split, arm_difference, paired_gap
from data_contracts.use_case import load_use_case
from serving.traffic import expected, measured, needs

RATE, EACH, STEP = 0.3, 10, 200
TUNED = weights(DEFAULTS, Traffic(1e6, 1e6, 1e5, RATE), 0.05)["CTR"]
HOUR = 3_600_000_000


def look(number: int, *checks: Check, epoch: int = 7) -> dict[str, Any]:
    decided = decision("canary", "at half of the units", DEFAULTS, checks).as_dict()
    kept = [check for check in decided["checks"] if check["kind"] != "absent"]
    return {"time": format_time(number * HOUR), "epoch": epoch, "decision": {"checks": kept}}


def looks(rng: np.random.Generator, lift: float = 1.0) -> Iterator[dict[str, Any]]:
    """One an hour, with new users of ten impressions each; the candidate's click
    `lift` times as often."""
    units = np.arange(150 * STEP)
    clicks = rng.binomial(EACH, np.where(units % 2, RATE * lift, RATE))
    for number in range(1, 151):
        seen = slice(0, number * STEP)
        shown = np.full(number * STEP, EACH)
        sums = arm_difference(
            units[seen], units[seen] % 3, units[seen] % 2 == 1, shown, clicks[seen]
        )
        yield look(number, sequence_check(DEFAULTS, "CTR", sums, TUNED, 0.05))


def verdict(of: dict[str, Any]) -> str:
    return of["decision"]["checks"][0]["verdict"]


def test_an_equal_candidate_has_mostly_passed_when_a_quarter_of_the_way_told_it_would() -> None:
    told, took = [], []
    for seed in range(40):
        seen: list[dict[str, Any]] = []
        for each in looks(np.random.default_rng(seed)):
            seen.append(each)
            if verdict(each) == "pass":
                break
        early = seen[: max(2, len(seen) // 4)]
        (left,) = remaining(early)
        assert left.check == "CTR" and left.seconds is not None
        told.append(len(early) + left.seconds / 3600)
        took.append(len(seen))
    assert 30 <= sum(np.array(took) <= np.ceil(told))
    assert np.median(np.array(told) / took) < 2.0


def test_one_that_differs_is_told_no_time_once_an_equal_one_had_passed() -> None:
    seen = [each for each in looks(np.random.default_rng(1), lift=0.97) if verdict(each)]
    undecided = [number for number, each in enumerate(seen) if verdict(each) == "cannot judge"]
    assert [Remaining("CTR", 1.0, None)] == remaining(seen[: undecided[-1] + 1])


def test_rows_and_units_are_waited_for_at_the_pace_of_the_step() -> None:
    def at(number: int, requests: int, units: int, epoch: int = 7) -> dict[str, Any]:
        rule = next(rule for rule in DEFAULTS if rule.check == "errors")
        errors = failures_check(rule, Failures(0, requests), Failures(0, 0))
        return look(
            number, errors, ratio_check(DEFAULTS, [Split(0.5, units, 2 * units)], 0.05), epoch=epoch
        )

    rule = next(rule for rule in DEFAULTS if rule.check == "errors")
    assert rule.least > 200
    before, first = at(0, 0, 0, epoch=6), at(5, 100, 10)
    assert [Remaining("errors", 100 / rule.least, None), Remaining("sample ratio", 0.05, None)] == (
        remaining([before, first])
    )
    second = at(7, 200, 50)
    assert [
        Remaining("errors", 200 / rule.least, (rule.least - 200) / 100 * 7200),
        Remaining("sample ratio", 0.25, 150 / 40 * 7200),
    ] == remaining([before, first, second])
    assert [] == remaining([before, first, second, at(9, rule.least, 300)])
    assert [] == remaining([])


def outcomes(
    lake: Lake, hours: np.ndarray, units: np.ndarray, labels: np.ndarray, **scores: np.ndarray
) -> None:
    scores = {"score": np.full(len(units), 0.5)} | scores
    rows = {
        **{name: pa.array(values) for name, values in scores.items()},
        "unit": pa.array([f"u{unit}" for unit in units]),
        "request_id": pa.array([f"r{row // 2}" for row in range(len(units))]),
        "label": pa.array(labels, pa.int32()),
        "q": pa.array((hours * HOUR).astype(np.int64), pa.timestamp("us", "UTC")),
    }
    write_deltalake(str(lake.outcomes), pa.table(rows), mode="overwrite")


def test_traffic_is_measured_over_whole_days(tmp_path: Path) -> None:
    lake, rng = Lake(tmp_path, "clicks"), np.random.default_rng(4)
    hours = np.concatenate([rng.uniform(24 * 9, 24 * 9.9, 7_777), [0.0, 24 * 12.0]])
    hours = np.concatenate([hours, rng.uniform(24 * 10, 24 * 12, 4_000)])
    units = np.concatenate([rng.integers(0, 500, len(hours))])
    labels = (rng.random(len(hours)) < 0.2).astype(int)
    outcomes(lake, hours, units, labels)
    found = measured(lake)
    last = hours > 24 * 5
    assert found.impressions_per_day == last.sum() / 7
    days = {*zip(units[last], ((24 * 12 - hours[last]) // 24), strict=True)}
    assert found.users_per_day == len(days) / 7
    requests = {*(np.arange(len(hours))[last] // 2)}
    assert found.requests_per_day == len(requests) / 7
    ages = {unit: max(age for name, age in days if name == unit) for unit, _ in days}
    assert found.new_users_per_day == sum(age < 6 for age in ages.values()) / 6 > 0
    assert found.rate == pytest.approx(labels[last].mean())
    assert found.design_effect == pytest.approx(1.0, abs=0.15)


def test_users_who_click_all_or_nothing_make_an_effect_and_a_short_day_is_scaled(
    tmp_path: Path,
) -> None:
    lake, units = Lake(tmp_path, "clicks"), np.arange(4_000) % 400
    outcomes(lake, np.linspace(100, 106, 4_000), units, (units % 4 == 0).astype(int))
    found = measured(lake)
    assert (16_000, 8_000, 400, 0, 0.25) == pytest.approx(
        (found.impressions_per_day, found.requests_per_day, found.users_per_day,
         found.new_users_per_day, found.rate)
    )  # fmt: skip
    assert found.design_effect == pytest.approx(10.0)


def shadowed(
    rng: np.random.Generator, users: int, each: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(units, labels, scores) of two models that err alike: how far they are apart is of a user as
    much as of a row, and so is what neither of them knows."""
    units = np.repeat(np.arange(users), each)
    apart = rng.normal(0, 0.4, users)[units] + rng.normal(0, 0.2, len(units))
    known = rng.normal(-1.5, 1.0, len(units))
    truth = known + rng.normal(0, 0.8, users)[units]
    labels = (rng.random(len(units)) < 1 / (1 + np.exp(-truth))).astype(int)
    scores = {
        name: 1 / (1 + np.exp(-known - way * apart / 2))
        for name, way in (("score", -1), ("shadow_score", 1))
    }
    return units, labels, scores


def test_a_gap_that_was_measured_in_a_shadow_tells_when_an_equal_candidate_passes(
    tmp_path: Path,
) -> None:
    lake, rng, users, each = Lake(tmp_path, "clicks"), np.random.default_rng(3), 1_000, 40
    units, labels, scores = shadowed(rng, users, each)
    hours = np.linspace(0, 48, len(units))
    versions = np.where(hours < 24, "2", "3")
    outcomes(lake, hours, units, labels, **scores, shadow_version=versions)
    losses = log_losses(labels, scores["score"])
    gaps, last = log_losses(labels, scores["shadow_score"]) - losses, hours >= 24
    found = measured(lake)
    assert found.log_loss == pytest.approx(losses[1:].mean())
    sums = paired_gap(units[last], gaps[last], np.ones(last.sum()), losses[last])
    assert found.gap_deviation == pytest.approx((sums.variance / last.sum()) ** 0.5)
    assert found.gap_deviation > 1.5 * gaps.std()
    assert [] == found.as_dict()["assumed"]
    need = next(n for n in needs(load_use_case("clicks"), found).needs if n.stage == "shadow")
    passed = 0
    for _ in range(40):
        units, labels, scores = shadowed(rng, int(need.weight) // each, each)
        losses = log_losses(labels, scores["score"])
        gaps = log_losses(labels, scores["shadow_score"]) - losses
        sums = paired_gap(units, gaps, np.ones(len(gaps)), losses)
        passed += sequence_check(DEFAULTS, need.check, sums, need.weight, 0.05).verdict == "pass"
    assert 32 <= passed


def test_a_gap_that_nobody_has_seen_is_taken_for_one_of_log_odds_apart(tmp_path: Path) -> None:
    lake, (units, labels, scores) = (
        Lake(tmp_path, "clicks"),
        shadowed(np.random.default_rng(1), 199, 9),
    )
    hours = np.linspace(0, 30, len(units))
    outcomes(lake, hours, units, labels, **scores, shadow_version=np.full(len(units), "2"))
    found = measured(lake)
    assert (None, ["gap_deviation"]) == (found.gap_deviation, found.as_dict()["assumed"])
    independent = replace(found, design_effect=1.0, rate=0.5)
    assert APART / 2 == independent.gap
    losses = independent.loss, replace(independent, log_loss=None).loss
    assert (found.log_loss, np.log(2)) == pytest.approx(losses)
    asked = replace(found, gap_deviation=0.3).as_dict()
    assert (0.3, []) == (asked["gap_deviation"], asked["assumed"])


def test_what_cannot_be_measured_is_asked_for(tmp_path: Path) -> None:
    lake, few = Lake(tmp_path, "clicks"), np.arange(10)
    with pytest.raises(ValueError, match="run `headrace report` later, or give --impressions"):
        measured(lake)
    outcomes(lake, few / 100, few, few % 2)
    with pytest.raises(ValueError, match="no hour of matured outcomes"):
        measured(lake)
    outcomes(lake, few / 2, few, few * 0)
    with pytest.raises(ValueError, match="all 10 matured outcomes are of one class: give --rate"):
        measured(lake)


def test_units_of_both_arms_that_are_declared_are_waited_for() -> None:
    rules = effective([Rule("sample ratio", "canary", least=4_000)])
    seen = [
        look(number, ratio_check(rules, [Split(0.5, units, 2 * units)], 0.05))
        for number, units in ((5, 500), (7, 1_000))
    ]
    assert [Remaining("sample ratio", 0.5, 2_000 / 1_000 * 7200)] == remaining(seen)


def test_a_release_is_expected_to_need_the_fewest_days_that_its_first_day_allows(
    tmp_path: Path,
) -> None:
    lake, use_case, rows = Lake(tmp_path, "clicks"), load_use_case("clicks"), np.arange(4_000)
    assert expected(use_case, lake) is None
    outcomes(lake, rows / 4_000 * 20, rows // 40, (rows % 10 == 0).astype(int))
    first = expected(use_case, lake)
    seen = measured(lake)
    assert first == needs(use_case, replace(seen, new_users_per_day=seen.users_per_day))
    with pytest.raises(ValueError, match="come and no new ones"):
        needs(use_case, seen)
    outcomes(lake, rows / 4_000 * 72, rows // 4, (rows % 10 == 0).astype(int))
    assert expected(use_case, lake) == needs(use_case, measured(lake))
