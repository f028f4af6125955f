"""Counting the source by itself finds a record that was lost or written twice."""

import json
from pathlib import Path
from shutil import rmtree

import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from data_contracts.clock import SECOND
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.conservation import Conservation, conservation
from spark_jobs.stream import ingest_available
from spark_jobs.tables import load
from tests.spark.lakes import ARRIVAL, NOON, impression, land_at, original, to_file


def test_an_empty_lake_conserves_nothing_and_holds(spark: SparkSession, lake: Lake) -> None:
    found = conservation(spark, lake)
    assert (0, True) == (found.records, found.holds)


def test_a_lost_record_and_a_doubled_one_are_found_and_named_by_file(
    spark: SparkSession, lake: Lake, clicks: UseCase, tmp_path: Path
) -> None:
    for i, name in enumerate(("kept", "lost", "doubled")):
        log = [impression(f"{name}-{j}", NOON + j * SECOND) for j in range(4)]
        land_at(lake, to_file(tmp_path / f"{name}.jsonl", [*log, b"broken"]), at=ARRIVAL + i)
    land_at(lake, to_file(tmp_path / "unread.jsonl", [impression("later", NOON)]), at=ARRIVAL + 3)
    unread = next(lake.landing.glob("*unread.jsonl"))
    away = unread.rename(tmp_path / "away.jsonl")
    ingest_available(spark, clicks, lake)
    found = conservation(spark, lake)
    assert (15, 12, 3, True) == (found.records, found.events, found.quarantined, found.holds)
    assert 0 == found.waiting

    table = DeltaTable.forPath(spark, str(lake.events))
    table.delete("event_id = 'lost-3'")
    found = conservation(spark, lake)
    assert (15, 11, False) == (found.records, found.events, found.holds)
    assert ["lost.jsonl"] == [original(name) for name in found.wrong_origins]

    twice = load(spark, lake.events).where("event_id = 'doubled-1'")
    twice.write.format("delta").mode("append").save(str(lake.events))
    found = conservation(spark, lake)
    assert (15, 12, False) == (found.records, found.events, found.holds), "the totals agree again"
    assert ["doubled.jsonl", "lost.jsonl"] == sorted(map(original, found.wrong_origins))

    away.rename(unread)
    next(lake.landing.glob("*kept.jsonl")).unlink()
    found = conservation(spark, lake)
    assert ["doubled.jsonl", "kept.jsonl", "lost.jsonl"] == named(found)
    assert 1 == found.waiting, "what lands later is not missing"


def named(found: Conservation) -> list[str]:
    """The original names of the files that are wrong."""
    return sorted(map(original, found.wrong_origins))


@pytest.fixture
def two_batches(spark: SparkSession, clicks: UseCase, lake: Lake, tmp_path: Path) -> Lake:
    """Two records in a landed file, then two more lines of a growing one, a batch each."""
    land_at(lake, to_file(tmp_path / "first.jsonl", [impression(f"a{i}", NOON) for i in range(2)]))
    ingest_available(spark, clicks, lake)
    to_file(lake.landing / "http-1.jsonl", [impression("b", NOON), b"broken"])
    ingest_available(spark, clicks, lake)
    return lake


def test_records_that_land_after_the_last_batch_wait_and_nothing_is_missing(
    spark: SparkSession, two_batches: Lake, tmp_path: Path
) -> None:
    with open(two_batches.landing / "http-1.jsonl", "ab") as growing:
        growing.write(b"one\ntwo\nnot yet a re")
    (tmp_path / "torn.jsonl").write_bytes(b"three\nfour")
    land_at(two_batches, tmp_path / "torn.jsonl")
    found = conservation(spark, two_batches)
    assert (4, 3, 1, 4, True) == (
        found.records, found.events, found.quarantined, found.waiting, found.holds,
    )  # fmt: skip


def test_the_batch_under_way_is_not_judged_before_its_commit(
    spark: SparkSession, two_batches: Lake
) -> None:
    uncommitted(two_batches, 1)
    found = conservation(spark, two_batches)
    assert (2, 2, 2, True) == (found.records, found.events, found.waiting, found.holds)


def test_rows_that_no_batch_of_the_checkpoint_wrote_are_found(
    spark: SparkSession, two_batches: Lake
) -> None:
    uncommitted(two_batches, 1)
    (two_batches.stream / "checkpoint" / "offsets" / "1").unlink()
    found = conservation(spark, two_batches)
    assert (["http-1.jsonl"], False) == (named(found), found.holds)
    rmtree(two_batches.stream / "checkpoint")
    found = conservation(spark, two_batches)
    assert (0, 0, 4, False) == (found.records, found.events, found.waiting, found.holds)
    assert ["first.jsonl", "http-1.jsonl"] == named(found)


@pytest.mark.parametrize("damage", ["shorter", "longer line"])
def test_a_file_that_is_not_what_was_consumed_is_found(
    spark: SparkSession, two_batches: Lake, damage: str
) -> None:
    growing = two_batches.landing / "http-1.jsonl"
    content = growing.read_bytes()
    growing.write_bytes(content[:-1] if damage == "shorter" else content[:-1] + b" and more\n")
    found = conservation(spark, two_batches)
    assert (["http-1.jsonl"], False) == (named(found), found.holds)


def test_the_lines_of_the_offset_are_not_believed(spark: SparkSession, two_batches: Lake) -> None:
    offsets = two_batches.stream / "checkpoint" / "offsets" / "1"
    *head, last = offsets.read_text().splitlines()
    lied = {name: {**at, "lines": 99} for name, at in json.loads(last).items()}
    offsets.write_text("\n".join([*head, json.dumps(lied)]))
    found = conservation(spark, two_batches)
    assert (4, True) == (found.records, found.holds)
    offsets.write_text("v1")
    with pytest.raises(ValueError, match=r"offsets/1: gives no offset of the landing log"):
        conservation(spark, two_batches)


def uncommitted(lake: Lake, batch: int) -> None:
    """As if the writer had died between the append and the commit of that batch."""
    for name in (f"{batch}", f".{batch}.crc"):
        (lake.stream / "checkpoint" / "commits" / name).unlink()
