"""Tiles are built for the days that gained events, and for no other."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from data_contracts.clock import DAY, HOUR
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs import tiles
from spark_jobs.schemas import TILES
from spark_jobs.stream import ingest_available
from spark_jobs.tables import load
from spark_jobs.tiles import (
    Backfilled,
    PackedDays,
    backfill_tiles,
    commit_days,
    pack_days,
    stale_days,
)
from tests.spark.lakes import NOON, impression, land_at, to_file


@pytest.fixture
def three_days(spark: SparkSession, clicks: UseCase, lake: Lake, tmp_path: Path) -> Lake:
    events = [impression(f"e{i}", NOON + i * DAY) for i in range(3)]
    land_at(lake, to_file(tmp_path / "three.jsonl", events), at=NOON + 9 * DAY)
    ingest_available(spark, clicks, lake)
    return lake


def test_only_days_that_gained_events_are_built(
    spark: SparkSession, clicks: UseCase, three_days: Lake, tmp_path: Path
) -> None:
    assert Backfilled(6, 6, 6) == backfill_tiles(spark, clicks, three_days, clicks.groups)
    assert Backfilled(6, 0, 0) == backfill_tiles(spark, clicks, three_days, clicks.groups)
    late = to_file(tmp_path / "late.jsonl", [impression("late", NOON + DAY + HOUR, "u2")])
    land_at(three_days, late, at=NOON + 10 * DAY)
    ingest_available(spark, clicks, three_days)
    assert Backfilled(7, 2, 4) == backfill_tiles(spark, clicks, three_days, clicks.groups)
    seqs = load(spark, three_days.tiles).select("day", "seq").distinct().collect()
    assert {("2019-11-26", 1), ("2019-11-27", 2), ("2019-11-28", 1)} == {tuple(r) for r in seqs}


def test_an_interrupted_backfill_goes_on_with_the_days_that_remain(
    spark: SparkSession, clicks: UseCase, three_days: Lake
) -> None:
    with patch.object(tiles, "EVENTS_AT_ONCE", 1):
        (stale,) = stale_days(spark, clicks, three_days, clicks.groups)
        chunks = list(stale.chunks())
        assert [["2019-11-26"], ["2019-11-27"], ["2019-11-28"]] == [list(c.days) for c in chunks]
        commit_days(spark, three_days, pack_days(spark, clicks, three_days, chunks[0]))
        assert Backfilled(6, 4, 4) == backfill_tiles(spark, clicks, three_days, clicks.groups)


def test_days_that_upkeep_rewrites_amid_a_backfill_are_built_anew(
    spark: SparkSession, clicks: UseCase, three_days: Lake, tmp_path: Path
) -> None:
    backfill_tiles(spark, clicks, three_days, clicks.groups)
    late = to_file(tmp_path / "late.jsonl", [impression("late", NOON + DAY + HOUR, "u2")])
    land_at(three_days, late, at=NOON + 10 * DAY)
    ingest_available(spark, clicks, three_days)
    begun, rewritten = tmp_path / "begun", tmp_path / "rewritten"

    def held_up(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        deadline = time.monotonic() + 60
        while not rewritten.exists() and time.monotonic() < deadline:
            begun.touch()
        yield from batches

    def pack_slowly(*parts: Any) -> PackedDays:
        found = pack_days(*parts)
        return replace(found, rows=found.rows.mapInArrow(held_up, TILES))

    with patch.object(tiles, "pack_days", pack_slowly), ThreadPoolExecutor(1) as beside:
        building = beside.submit(backfill_tiles, spark, clicks, three_days, clicks.groups)
        deadline = time.monotonic() + 60
        while not begun.exists():
            assert time.monotonic() < deadline and not building.done()
        # By delta-rs: what is held up may hold both of Spark's task slots.
        DeltaTable(three_days.tiles).delete("day <= '2019-11-27'")
        rewritten.touch()
        assert Backfilled(5, 2, 4) == building.result()
    days = load(spark, three_days.tiles).select("day", "seq").distinct().collect()
    assert {("2019-11-27", 2), ("2019-11-28", 1)} == {tuple(row) for row in days}


def test_a_backfill_that_read_less_does_not_replace_one_that_read_more(
    spark: SparkSession, clicks: UseCase, three_days: Lake, tmp_path: Path
) -> None:
    (stale,) = stale_days(spark, clicks, three_days, clicks.groups)
    older = pack_days(spark, clicks, three_days, stale)
    land_at(three_days, to_file(tmp_path / "late.jsonl", [impression("late", NOON + HOUR)]))
    ingest_available(spark, clicks, three_days)
    backfill_tiles(spark, clicks, three_days, clicks.groups)

    def held() -> list[tuple[object, ...]]:
        rows = load(spark, three_days.tiles).orderBy("group", "day").collect()
        return [tuple(row) for row in rows]

    newer = held()
    assert (1, {2}) == (older.seq, {row[4] for row in newer})
    commit_days(spark, three_days, older)
    assert newer == held()
