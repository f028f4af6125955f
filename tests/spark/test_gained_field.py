"""A contract that gains a field goes on with the same lake; one that changes a field is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from data_contracts.aggregates import Count, Max, Mean
from data_contracts.clock import HOUR, MINUTE, SECOND
from data_contracts.contract import read_contract
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.states import read
from data_contracts.use_case import CONTRACT, UseCase
from data_contracts.views import digests_of
from data_contracts.windows import Sliding
from serving.features import FeatureReader
from spark_jobs.events import load_events
from spark_jobs.expectations import validate_partition
from spark_jobs.feature_store import OnlineStates
from spark_jobs.materialize import materialize
from spark_jobs.stream import ingest_available
from spark_jobs.tables import load
from spark_jobs.tiles import backfill_tiles
from spark_jobs.training_set import build_training_set
from tests.spark.lakes import (
    ARRIVAL,
    NOON,
    click,
    impression,
    land_at,
    rows_of,
    to_file,
    typed,
    versions,
)
from tests.spark.test_outcomes import answer, collect

FIRST, LAST = "2019-11-25", "2019-11-26"
BEFORE = NOON - 20 * HOUR
GAINED = """      - name: dwell
        logicalType: number
        description: Seconds for which the impression was looked at.
        logicalTypeOptions: {minimum: 0, maximum: 1000}
"""
USER = FeatureGroup(
    name="user",
    entity="user_id",
    aggregates={
        "shown": Count(where=("impression",)),
        "dwell": Mean("dwell", scale=1000),
        "longest": Max("dwell", scale=1000),
    },
    windows=(Sliding("10m"), Sliding("24h")),
    defaults={"longest": -1.0},
)
OLD = [impression(f"old-{i}", BEFORE + i * MINUTE, user=f"u{i % 2}") for i in range(8)]
NEW = [
    impression(
        f"new-{i}", NOON + HOUR + i * MINUTE, user=f"u{i % 2}", dwell=None if i % 3 else i + 0.125
    )
    for i in range(8)
]
LABELS = [
    click("old-2", BEFORE + 3 * MINUTE, user="u0"),
    click("new-3", NOON + 2 * HOUR, user="u1"),
]
"""The second is too late for its impression and lets the labels of all others mature."""


def edited(clicks: UseCase, folder: Path, old: str, new: str) -> UseCase:
    """The use case with `old` replaced in its contract's file, which lies in `folder`."""
    text = (clicks.folder / CONTRACT).read_text()
    assert old in text
    folder.mkdir()
    (folder / CONTRACT).write_text(text.replace(old, new, 1))
    return replace(clicks, folder=folder, contract=read_contract(folder / CONTRACT))


@pytest.fixture
def gained(clicks: UseCase, tmp_path: Path) -> UseCase:
    """The clicks with a field `dwell` and features over it."""
    position = "      - name: position\n"
    use_case = edited(clicks, tmp_path / "gained", position, GAINED + position)
    return replace(use_case, declared=replace(use_case.declared, groups=(USER,)))


@pytest.mark.full
def test_a_new_field_is_null_before_it_and_counted_after_it(
    spark: SparkSession, clicks: UseCase, gained: UseCase, lake: Lake, tmp_path: Path
) -> None:
    land_at(lake, to_file(tmp_path / "old.jsonl", [*OLD, LABELS[0], LABELS[1]]))
    ingest_available(spark, clicks, lake)
    read_all(spark, gained, lake, [*OLD, *LABELS])
    assert "dwell" not in load(spark, lake.events).columns, "not widened by reading"

    land_at(lake, to_file(tmp_path / "new.jsonl", NEW), at=ARRIVAL + 1)
    ingest_available(spark, gained, lake)
    held = {row["event_id"]: row["dwell"] for row in rows_of(spark, lake.events)}
    expected = {event["event_id"]: event.get("dwell") for event in [*OLD, *LABELS, *NEW]}
    assert expected == held
    read_all(spark, gained, lake, [*OLD, *LABELS, *NEW])


def read_all(spark: SparkSession, gained: UseCase, lake: Lake, log: list[dict]) -> None:
    """Every reader of events works, and features over the field are the oracle's."""
    assert validate_partition(gained.contract, load_events(spark, gained, lake)).success
    assert backfill_tiles(spark, gained, lake, gained.groups, FIRST, LAST)
    assert 0 == materialize(spark, gained, lake).mismatches
    events, q = typed(gained, log), NOON + 2 * HOUR + SECOND
    states = OnlineStates(gained, lake).read(USER, ["u0", "u1"])
    for user in ("u0", "u1"):
        expected = oracle_features(USER, events, user, q)
        assert expected == read(USER, [states[user]], q)[0].tolist()
    build_training_set(spark, gained, lake)
    rows = {row["event_id"]: row for row in load(spark, lake.training_set).toArrow().to_pylist()}
    assert {event["event_id"] for event in log if event["event_type"] == "impression"} == set(rows)
    for row in rows.values():
        at = round(row["q"].timestamp() * 1e6)
        expected = oracle_features(USER, events, row["user_id"], at)
        assert expected == [row[name] for name in USER.feature_names]
    reader = FeatureReader(gained, lake, digests_of(gained.groups))
    served = answer(gained, reader, "old-5", q, "u1", "i1")
    collected, parity = collect(spark, gained, lake, [served])
    assert (3, 0) == (collected.late, parity.mismatches)
    assert parity.non_default > 0


def test_a_batch_that_was_appended_before_the_change_and_runs_again_after_it_stops_nothing(
    spark: SparkSession, clicks: UseCase, lake: Lake, gained: UseCase, tmp_path: Path
) -> None:
    gained = replace(gained, declared=replace(gained.declared, groups=clicks.groups))
    land_at(lake, to_file(tmp_path / "old.jsonl", OLD))
    ingest_available(spark, clicks, lake)
    for name in ("0", ".0.crc"):
        (lake.stream / "checkpoint" / "commits" / name).unlink()
    land_at(lake, to_file(tmp_path / "new.jsonl", NEW), at=ARRIVAL + 1)
    ingest_available(spark, gained, lake)
    held = {row["event_id"]: row["dwell"] for row in rows_of(spark, lake.events)}
    assert {event["event_id"]: event.get("dwell") for event in [*OLD, *NEW]} == held


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "name: propensity\n        logicalType: number",
            "name: propensity\n        logicalType: integer",
            r"field propensity is declared as integer, but \S+/events holds it as number: declare",
        ),
        (
            "name: policy\n",
            "name: politics\n",
            r"field policy is not declared, but \S+/events holds it as string: declare it as",
        ),
    ],
)
def test_another_type_and_a_removed_field_are_refused_before_the_stream_starts(
    spark: SparkSession,
    clicks: UseCase,
    lake: Lake,
    tmp_path: Path,
    old: str,
    new: str,
    said: str,
) -> None:
    land_at(lake, to_file(tmp_path / "old.jsonl", OLD))
    ingest_available(spark, clicks, lake)
    changed = edited(clicks, tmp_path / "changed", old, new)
    land_at(lake, to_file(tmp_path / "new.jsonl", [impression("later", NOON)]), at=ARRIVAL + 1)
    before = versions(spark, lake), (lake.stream / "write_clock.json").read_text()
    with pytest.raises(ValueError, match=said) as error:
        ingest_available(spark, changed, lake)
    assert f"{changed.folder / CONTRACT}: field" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=said):
        backfill_tiles(spark, changed, lake, changed.groups, FIRST, LAST)
    assert before == (versions(spark, lake), (lake.stream / "write_clock.json").read_text())
    assert ["0"] == [path.name for path in (lake.stream / "checkpoint" / "offsets").glob("[0-9]*")]
    ingest_available(spark, clicks, lake)
    assert len(OLD) + 1 == load(spark, lake.events).count()
