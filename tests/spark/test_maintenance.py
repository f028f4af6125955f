"""Upkeep changes files and rows, never a value; also beside a running stream."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.aggregates import Count, Distinct, Last, Sum
from data_contracts.clock import DAY, HOUR, MINUTE, day_of
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.states import State, of_key, read
from data_contracts.use_case import UseCase
from data_contracts.windows import Lifetime, Session, Sliding, Tumbling
from spark_jobs.conservation import conservation
from spark_jobs.feature_store import OnlineStates
from spark_jobs.folding import fold_tiles
from spark_jobs.maintenance import Maintained, maintain
from spark_jobs.materialize import materialize, rebuild
from spark_jobs.schemas import RAW
from spark_jobs.stream import MicroBatches, ingest_available, running_stream
from spark_jobs.tables import load
from spark_jobs.tiles import backfill_tiles
from tests.engines import tables
from tests.spark.lakes import NOON, impression, land_at, rows_of, to_file, to_line, typed

AGGREGATES = {
    "n": Count(),
    "position": Sum("position"),
    "last": Last("position"),
    "items": Distinct("item_id", cap=4),
}
USER = FeatureGroup(
    "user", "user_id", AGGREGATES, (Sliding("24h"), Session("30m"), Lifetime("2019-11-02"))
)
ITEM = FeatureGroup("item", "item_id", AGGREGATES, (Sliding("1h"), Tumbling("1d")), ttl="3d")
DAYS = [
    impression(
        f"e{i}",
        NOON - (12 - i // 6) * DAY + i * 7 * MINUTE,
        user=f"u{i % 3}",
        item=f"i{i // 24}",
        position=1 + i % 3,
    )
    for i in range(72)
]
"""Twelve days of six events; the items change every four days."""
END = DAYS[-1]["arrived_at"]
LATE = impression("late", NOON - 11 * DAY, user="u1", item="i0", arrived_at=END)
KEYS = {"user_id": ["u0", "u1", "u2", "nobody"], "item_id": ["i0", "i1", "i2", "nothing"]}


@pytest.fixture(scope="module")
def use_case(clicks: UseCase) -> UseCase:
    return replace(clicks, declared=replace(clicks.declared, groups=(USER, ITEM)))


@pytest.fixture(scope="module")
def aged(spark: SparkSession, use_case: UseCase, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of many small files, its tiles built before the last event came."""
    lake = Lake(tmp_path_factory.mktemp("aged"), use_case.name)
    feed(spark, use_case, lake, 0, [*DAYS[:40], DAYS[0]])
    feed(spark, use_case, lake, 1, DAYS[40:])
    backfill_tiles(spark, use_case, lake, use_case.groups)
    feed(spark, use_case, lake, 2, [LATE, DAYS[9]])
    return lake


def feed(
    spark: SparkSession, use_case: UseCase, lake: Lake, number: int, events: list[dict[str, Any]]
) -> None:
    lines = [(f"http-{number}.jsonl", i, to_line(event)) for i, event in enumerate(events, 1)]
    raw = spark.createDataFrame(lines, RAW)
    MicroBatches(spark, use_case, lake).process(raw, number)


@pytest.fixture
def lake(aged: Lake, tmp_path: Path) -> Lake:
    copytree(aged.root, tmp_path / "root")
    return Lake(tmp_path / "root", aged.use_case)


def seq_and_as_of(spark: SparkSession, lake: Lake) -> tuple[int, int]:
    events = load(spark, lake.events)
    row = events.agg(sf.max("seq"), sf.unix_micros(sf.max("arrived_at"))).first()
    assert row is not None
    return row[0], row[1]


def rebuilt(spark: SparkSession, use_case: UseCase, lake: Lake) -> list[dict[str, State]]:
    moment = seq_and_as_of(spark, lake)
    return [rebuild(spark, use_case, lake, group, *moment) for group in use_case.groups]


def tables_of(use_case: UseCase, states: list[dict[str, State]]) -> list[dict[str, object]]:
    return [
        {key: tables(group, of_key(state.rows, 0)) for key, state in found.items()}
        for group, found in zip(use_case.groups, states, strict=True)
    ]


def check_values(
    spark: SparkSession, use_case: UseCase, lake: Lake, events: list[dict[str, Any]]
) -> None:
    """Online and rebuilt states give the oracle's features as the windows fall."""
    known, as_of = typed(use_case, events), seq_and_as_of(spark, lake)[1]
    online = OnlineStates(use_case, lake)
    for group, states in zip(use_case.groups, rebuilt(spark, use_case, lake), strict=True):
        keys = KEYS[group.entity]
        held = online.read(group, keys)
        for q in (as_of, as_of + 1, as_of + HOUR, as_of + DAY, as_of + 9 * DAY):
            expected = [oracle_features(group, known, key, q) for key in keys]
            assert expected == read(group, [held.get(key) for key in keys], q).tolist()
            assert expected == read(group, [states.get(key) for key in keys], q).tolist()


@pytest.mark.full
def test_an_upkeep_merges_files_folds_old_tiles_and_changes_no_row_and_no_state(
    spark: SparkSession, use_case: UseCase, lake: Lake
) -> None:
    rows = {name: rows_of(spark, getattr(lake, name)) for name in ("events", "duplicates")}
    states = tables_of(use_case, rebuilt(spark, use_case, lake))
    tiles = load(spark, lake.tiles).count()
    done = maintain(spark, use_case, lake, "7d")
    assert ({}, {"events": (3, 1), "duplicates": (2, 1)}) == (done.skipped, done.compacted)
    assert 3 == done.bases == load(spark, lake.tile_bases).count()
    left = load(spark, lake.tiles).toArrow()
    assert tiles == done.tiles_deleted + len(left)
    assert {day_of(NOON - 2 * DAY), day_of(NOON - DAY)} == set(left["day"].to_pylist())
    assert {"i0", "i2"} == set(OnlineStates(use_case, lake).read(ITEM, KEYS["item_id"]))
    assert 1 == done.states_removed
    assert rows == {name: rows_of(spark, getattr(lake, name)) for name in rows}
    assert states == tables_of(use_case, rebuilt(spark, use_case, lake))
    check_values(spark, use_case, lake, [*DAYS, LATE])
    backfill_tiles(spark, use_case, lake, use_case.groups)
    assert left == load(spark, lake.tiles).toArrow(), "tiles of folded days do not come back"
    again = maintain(spark, use_case, lake, "7d")
    assert 0 == again.tiles_deleted
    assert (0, 0, {(0, 0)}) == (again.bases, again.states_removed, {*again.compacted.values()})
    assert states == tables_of(use_case, rebuilt(spark, use_case, lake))
    as_of = seq_and_as_of(spark, lake)[1]
    with pytest.raises(RuntimeError, match="tiles were folded amid this read up to 2: run again"):
        rebuild(spark, use_case, lake, USER, 2, as_of)
    DeltaTable.forPath(spark, str(lake.events)).restoreToVersion(1)
    with pytest.raises(ValueError, match="group user holds seq 3, events end at 2: the events ta"):
        rebuild(spark, use_case, lake, USER, 2, as_of)


def test_a_fold_that_dies_before_old_tiles_are_gone_counts_no_event_twice(
    spark: SparkSession, use_case: UseCase, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = tables_of(use_case, rebuilt(spark, use_case, lake))

    def dies(table: DeltaTable, condition: str) -> None:
        raise RuntimeError(f"killed before {condition}")

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "delete", dies)
        with pytest.raises(RuntimeError, match=r"killed before \(`group` = 'user'"):
            fold_tiles(spark, use_case, lake, *seq_and_as_of(spark, lake))
    assert 3 == load(spark, lake.tile_bases).count()
    assert day_of(NOON - 3 * DAY) > min(tile["day"] for tile in load(spark, lake.tiles).collect())
    assert states == tables_of(use_case, rebuilt(spark, use_case, lake))
    assert fold_tiles(spark, use_case, lake, *seq_and_as_of(spark, lake)).deleted
    assert states == tables_of(use_case, rebuilt(spark, use_case, lake))


@pytest.mark.full
def test_events_of_folded_days_for_a_key_that_was_removed_count_like_any_other(
    spark: SparkSession, use_case: UseCase, lake: Lake
) -> None:
    maintain(spark, use_case, lake, "7d")
    after = [
        impression("old", NOON - 10 * DAY, user="u0", item="i1", arrived_at=END),
        impression("edge", NOON - 2 * DAY, user="u0", item="i1", arrived_at=END),
        impression("new", NOON - 17 * HOUR, user="u2", item="i1", position=2, arrived_at=END),
    ]
    feed(spark, use_case, lake, 3, after)
    check_values(spark, use_case, lake, [*DAYS, LATE, *after])
    found = materialize(spark, use_case, lake)
    assert found.compared > 0 == found.mismatches


@pytest.mark.full
def test_files_are_kept_for_a_week_unless_less_is_named_by_force(
    spark: SparkSession, use_case: UseCase, lake: Lake
) -> None:
    with pytest.raises(ValueError, match="1h: readers may run for days and need their files"):
        maintain(spark, use_case, lake, "1h")
    assert {0} == set(maintain(spark, use_case, lake, "7d").vacuumed.values())
    rows = rows_of(spark, lake.events)
    old = [os.utime(path, (0, 0)) for path in lake.events.glob("*.parquet")]
    done = maintain(spark, use_case, lake, "1s", forced=True)
    assert len(old) - 1 == done.vacuumed["events"]
    assert rows == rows_of(spark, lake.events)


@pytest.mark.full
def test_upkeep_beside_a_running_stream_is_in_nobodys_way(
    spark: SparkSession, use_case: UseCase, tmp_path: Path
) -> None:
    lake = Lake(tmp_path / "root", use_case.name)
    files = [to_file(tmp_path / f"{i}.jsonl", [*DAYS[i::8], DAYS[i]]) for i in range(8)]
    land_at(lake, files[0])
    ingest_available(spark, use_case, lake)
    done: list[Maintained] = []
    with running_stream(spark, use_case, lake) as stream, ThreadPoolExecutor(1) as beside:
        for i in (1, 4):
            upkeep = beside.submit(maintain, spark, use_case, lake, "7d")
            for file in files[i : i + 3]:
                land_at(lake, file)
                stream.catch_up()
            done.append(upkeep.result())
        land_at(lake, files[7])
        stream.catch_up()
        while stream.batches.tend():
            pass
        assert 7 == stream.batches.done
    assert [({}, 0)] * 2 == [(each.skipped, each.states_removed) for each in done]
    assert done[0].states_left
    assert sum(each.compacted["events"][0] for each in done) > 1
    assert conservation(spark, lake).holds
    check_values(spark, use_case, lake, DAYS)
