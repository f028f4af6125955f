"""Counting the source by itself finds a record that was lost or written twice."""

from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from data_contracts.clock import SECOND
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.conservation import conservation
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
    named = {original(name) for name in found.wrong_origins}
    assert {"doubled.jsonl", "kept.jsonl", "lost.jsonl", "unread.jsonl"} == named
