"""A Kafka topic is a source like the landing log: the same records end in the same rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import DAY, HOUR
from data_contracts.lake import Lake
from data_contracts.record import MAX_BYTES
from data_contracts.use_case import UseCase
from spark_jobs.gate import with_verdict
from spark_jobs.kafka import MAX_BATCH_RECORDS, MAX_TASK_RECORDS
from spark_jobs.stream import ingest_available
from tests.kafka_broker import Broker
from tests.spark.lakes import ARRIVAL, impression, land_at, to_file, to_line
from tests.spark.test_replay_of_a_batch import FIRST, THEN, Outcome, outcome

FUTURE = {**impression("future", ARRIVAL + DAY), "arrived_at": None}
STAMPED = {
    **impression("stamped", ARRIVAL),
    "arrived_at": impression("", ARRIVAL + HOUR)["arrived_at"],
}
BATCHES = ([*FIRST, FUTURE], [*THEN, STAMPED, b"", b"\xff"])
"""Beside those of `test_replay_of_a_batch`: events after their arrival, stamped or not."""


def payloads(records: list[Any]) -> list[bytes]:
    return [r if isinstance(r, bytes) else to_line(r) for r in records]


def of_topic(found: Outcome, names: dict[str, str]) -> Outcome:
    """The outcome with other names for its origins, in rows and reasons, and with the arrivals that
    a topic tells itself."""

    def told(text: str) -> str:
        for old, new in names.items():
            text = text.replace(old, new)
        return text

    tables = {
        table: [{k: told(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
        for table, rows in found.tables.items()
    }
    tables["quarantine"] = [{**row, "arrived": ARRIVAL} for row in tables["quarantine"]]
    return replace(found, tables=tables)


def test_the_same_log_through_files_and_through_kafka_ends_in_the_same_tables_and_states(
    spark: SparkSession, clicks: UseCase, broker: Broker, tmp_path: Path
) -> None:
    topic = broker.topic("same_log", partitions=2)
    files, kafka = Lake(tmp_path / "files", clicks.name), Lake(tmp_path / "k", clicks.name, topic)
    for partition in range(2):
        # A removed record before them: offsets are then counted from 1, as lines are.
        broker.send(topic, [b"removed"], ARRIVAL, partition)
        broker.forget(topic, 1, partition)
    for number, batch in enumerate(BATCHES):
        land_at(files, to_file(tmp_path / f"{number}.jsonl", batch), at=ARRIVAL + number)
        broker.send(topic, payloads(batch), ARRIVAL, partition=number)
        for lake in (files, kafka):
            ingest_available(spark, clicks, lake)
    names = {path.name: topic.origin(i) for i, path in enumerate(sorted(files.landing.iterdir()))}
    expected = of_topic(outcome(spark, clicks, files), names)
    assert expected.counted.holds
    assert expected == outcome(spark, clicks, kafka)


@pytest.mark.full
def test_a_batch_of_as_many_records_as_are_taken_of_the_largest_size_fits_the_heap(
    spark: SparkSession, clicks: UseCase
) -> None:
    tasks = MAX_BATCH_RECORDS // MAX_TASK_RECORDS
    raw = spark.range(MAX_BATCH_RECORDS, numPartitions=tasks).select(
        sf.lit("shop/0").alias("origin"),
        sf.col("id").alias("line"),
        sf.repeat(sf.lit("x"), MAX_BYTES + 1).cast("binary").alias("payload"),
        sf.lit(ARRIVAL).alias("arrived"),
        sf.lit(10 * MAX_BYTES).cast("bigint").alias("size"),
    )
    gated = raw.transform(with_verdict(clicks.contract)).toArrow()
    assert {f"record: {10 * MAX_BYTES} bytes, at most {MAX_BYTES} allowed"} == set(
        gated["reasons"].unique().to_pylist()
    )
    assert MAX_BATCH_RECORDS * (MAX_BYTES + 1) < gated["payload"].nbytes
