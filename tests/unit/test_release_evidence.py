"""What the tables say of a release, as Delta keeps them: in many files, a row a candidate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from data_contracts.lake import Lake
from data_contracts.rollout import Plan, Target
from data_contracts.rollout_store import Report
from data_contracts.sequences import arm_difference
from data_contracts.splits import splits
from serving.evidence import gathered

PLAN = Plan(9, Target("1", "a"), Target("2", "b"), "canary", 5_000, release=7)
HOUR = 3_600_000_000
Rows = dict[str, np.ndarray]


def shown(rng: np.random.Generator, many: int, release: int) -> Rows:
    """Candidates shown to users of that release, whose arm is a function of user and share."""
    unit = rng.integers(0, 400, many)
    bps = rng.choice([100, 2_500, 5_000], many)
    return {
        "release": np.full(many, release),
        "unit": np.char.add("u", unit.astype(str)),
        "canary_bps": bps,
        "arm": np.where(unit * 25 < bps, "candidate", "champion"),
        "epoch": bps // 100,
        "q": rng.integers(0, 50 * HOUR, many),
        "label": rng.integers(0, 2, many),
        "fallback": np.full(many, None),
        "event_id": np.array([f"{rng.integers(1 << 60)}" for _ in range(many)]),
    }


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path, "clicks")


def write(lake: Lake, parts: list[Rows]) -> None:
    for part in parts:
        columns = {name: pa.array(column.tolist()) for name, column in part.items()}
        columns["fallback"] = columns["fallback"].cast(pa.string())
        columns["q"] = columns["q"].cast(pa.timestamp("us", "UTC"))
        for table in (lake.predictions, lake.outcomes):
            write_deltalake(str(table), pa.table(columns), mode="append")


def test_the_evidence_of_a_canary_is_that_of_its_rows_one_by_one(lake: Lake) -> None:
    rng = np.random.default_rng(3)
    parts = [shown(rng, 3_000, 7) for _ in range(4)]
    write(lake, [*parts, shown(rng, 500, 6)])
    seen = gathered(lake, PLAN, [])
    unit, bps, arm, epoch, q, label = (
        np.concatenate([part[name] for part in parts])
        for name in ("unit", "canary_bps", "arm", "epoch", "q", "label")
    )
    theirs = arm == "candidate"
    assert splits(unit, bps, theirs) == seen.splits
    assert 400 * 3 > sum(split.units for split in seen.splits) > 400
    strata = epoch * 10_000_000 + q // HOUR
    expected = arm_difference(unit, strata, theirs, np.ones(len(unit)), label.astype(float))
    for name in ("total", "weight", "variance", "level", "units", "impressions"):
        assert pytest.approx(getattr(expected, name)) == getattr(seen.arms, name)


def test_hours_of_which_records_were_lost_are_judged_by_nothing(lake: Lake, tmp_path: Path) -> None:
    rows = shown(np.random.default_rng(3), 3_000, 7)
    scores = {"score": np.full(3_000, 0.2), "shadow_score": np.full(3_000, 0.3)}
    rows |= {"shadow_version": np.full(3_000, "2"), **scores}
    write(lake, [rows])
    said = {"tallies": {}, "broken": {}}
    lost = [Report("r", boot, 1, {**said, "lost": {hour: 2}}) for boot, hour in ("a8", "b9")]
    kept = ~np.isin(rows["q"] // HOUR, [8, 9])
    sound = Lake(tmp_path / "sound", "clicks")
    write(sound, [{name: column[kept] for name, column in rows.items()}])
    for plan in (PLAN, replace(PLAN, stage="shadow")):
        expected, seen = gathered(sound, plan, []), gathered(lake, plan, lost)
        assert 0 < max(seen.arms.impressions, seen.pairs.impressions) < 3_000
        assert (8, 9) == seen.lost
        assert expected == replace(seen, lost=())


def test_hours_in_which_nobody_was_exposed_say_nothing_of_the_arms(
    lake: Lake, tmp_path: Path
) -> None:
    rows = shown(np.random.default_rng(3), 3_000, 7)
    hours = np.isin(rows["q"] // HOUR, [8, 9]) & (rows["epoch"] == 25)
    unexposed = hours & (rows["arm"] == "candidate")
    assert 0 < unexposed.sum() < hours.sum()
    write(lake, [rows | {"fallback": np.where(unexposed, "not exposed", None)}])
    sound = Lake(tmp_path / "sound", "clicks")
    write(sound, [{name: column[~hours] for name, column in rows.items()}])
    expected, seen = gathered(sound, PLAN, []).arms, gathered(lake, PLAN, []).arms
    for name in ("total", "weight", "variance", "level", "units", "impressions"):
        assert pytest.approx(getattr(expected, name)) == getattr(seen, name)


def test_an_impression_whose_request_was_answered_twice_counts_as_it_was_answered_last(
    lake: Lake, tmp_path: Path
) -> None:
    rows = shown(np.random.default_rng(3), 3_000, 7)
    again = {name: column[::7].copy() for name, column in rows.items()}
    again["q"] += 1
    write(lake, [rows, again])
    kept = np.arange(3_000) % 7 != 0
    sound = Lake(tmp_path / "sound", "clicks")
    write(sound, [{name: column[kept] for name, column in rows.items()}, again])
    expected, seen = gathered(sound, PLAN, []).arms, gathered(lake, PLAN, []).arms
    assert 3_000 == seen.impressions == expected.impressions
    for name in ("total", "weight", "variance", "level", "units"):
        assert pytest.approx(getattr(expected, name)) == getattr(seen, name)


def test_without_tables_or_rows_there_is_nothing_to_judge_by(lake: Lake) -> None:
    assert () == gathered(lake, PLAN, []).splits
    write(lake, [shown(np.random.default_rng(3), 50, 6)])
    seen = gathered(lake, PLAN, [])
    assert ((), 0) == (seen.splits, seen.arms.impressions)
