"""Kafka when things break: writers die, brokers die, offsets vanish, records are bad."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
from pyspark.sql import SparkSession

from data_contracts.clock import SECOND
from data_contracts.lake import Lake
from data_contracts.record import MAX_BYTES
from data_contracts.use_case import UseCase
from spark_jobs.conservation import Conservation, conservation
from spark_jobs.kafka import BrokerSilent
from spark_jobs.quarantine import mended
from spark_jobs.stream import ingest_available, running_stream
from tests.kafka_broker import Broker
from tests.spark.lakes import ARRIVAL, NOON, impression, land_at, rows_of, to_file, to_line
from tests.spark.test_replay_of_a_batch import FIRST, REPOSITORY, THEN, outcome

POISON: dict[bytes | None, str] = {
    None: "record: has no value (a tombstone), an object is needed",
    b"": "record: not one JSON object",
    b"\xff\xfe": "record: not UTF-8 at byte 0",
    b"[1, 2]": "record: a JSON list, an object is needed",
    to_line(impression("p1", NOON)) + to_line(impression("p2", NOON)): "not one JSON object",
    to_line(impression("p3", NOON)) + b"\n": "",
    to_line(impression("p4", NOON))[:-9]: "record: not one JSON object",
    b"[" * 60_000: "record: not one JSON object",
    b" " * 900_000: "record: 900000 bytes, at most 65536 allowed",
    to_line({**impression("p5", NOON), "position": "1"}): "position: '1' is not an integer",
    to_line({**impression("p6", NOON), "affinity": float("nan")}): "record: NaN is not JSON",
    to_line({**impression("p7", NOON), "event_time": 1574769600000}): "event_time: 1574769600000",
}
"""Payload -> what its reason begins with or holds; no reason for one that is an event."""


def topic_lake(broker: Broker, clicks: UseCase, root: Path, partitions: int = 1) -> Lake:
    """A lake over a new topic of its own."""
    return Lake(root, clicks.name, broker.topic(f"t{os.urandom(6).hex()}", partitions))


def events(*names: str) -> list[bytes]:
    return [to_line(impression(name, NOON + i * SECOND)) for i, name in enumerate(names)]


def send(broker: Broker, lake: Lake, *names: str, partition: int = 0) -> None:
    assert lake.kafka is not None
    broker.send(lake.kafka, events(*names), ARRIVAL, partition)


def ids(spark: SparkSession, lake: Lake) -> Counter[str]:
    return Counter(row["event_id"] for row in rows_of(spark, lake.events))


def counted(found: Conservation) -> tuple[int, int, int, bool]:
    return found.records, found.events, found.waiting, found.holds


def other_writer(lake: Lake, *stage: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.spark.kafka_writer", str(lake.root), str(lake.kafka)]
    return subprocess.run(
        [*command, *stage], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "stage", ["before_append", pytest.param("after_append", marks=pytest.mark.full)]
)
def test_a_writer_killed_in_mid_batch_leaves_what_an_undisturbed_one_does(
    spark: SparkSession, clicks: UseCase, broker: Broker, tmp_path: Path, stage: str
) -> None:
    lake = topic_lake(broker, clicks, tmp_path / "root")
    assert lake.kafka is not None
    for batch in (FIRST, THEN):
        values = [record if isinstance(record, bytes) else to_line(record) for record in batch]
        broker.send(lake.kafka, values, ARRIVAL)
        if batch is FIRST:
            ingest_available(spark, clicks, lake)
    dying = replace(lake, root=tmp_path / "dying")
    copytree(lake.root, dying.root)
    ingest_available(spark, clicks, lake)
    told = other_writer(dying, stage)
    assert -signal.SIGKILL == told.returncode, told.stderr
    ingest_available(spark, clicks, dying)
    undisturbed = outcome(spark, clicks, lake)
    assert (24, True) == (undisturbed.counted.events, undisturbed.counted.holds)
    assert undisturbed == outcome(spark, clicks, dying)


def follow_through_two_deaths(
    spark: SparkSession, clicks: UseCase, broker: Broker, lake: Lake
) -> None:
    """The broker comes back after the first, and stays away after the second."""
    with running_stream(spark, clicks, lake) as stream:
        stream.catch_up()
        assert (2, 0) == (stream.progress().events, stream.progress().lag)
        broker.kill()
        assert stream.progress().lag is None
        broker.start()
        send(broker, lake, "c", "d")
        stream.catch_up()
        assert (4, 0) == (stream.progress().events, stream.progress().lag)
        broker.kill()
        assert not stream.ended(within=400), "it ends by raising"


@pytest.mark.full
def test_a_broker_killed_under_a_running_stream_loses_and_doubles_nothing(
    spark: SparkSession, clicks: UseCase, broker: Broker, tmp_path: Path
) -> None:
    lake = topic_lake(broker, clicks, tmp_path)
    send(broker, lake, "a", "b")
    with pytest.raises(BrokerSilent, match=rf"^{lake.kafka}: no broker answers .*: start it"):
        follow_through_two_deaths(spark, clicks, broker, lake)
    with pytest.raises(BrokerSilent, match="no broker answers"):
        ingest_available(spark, clicks, lake)
    broker.start()
    send(broker, lake, "e")
    ingest_available(spark, clicks, lake)
    assert Counter("abcde") == ids(spark, lake)
    assert (5, 5, 0, True) == counted(conservation(spark, lake))


@pytest.mark.full
def test_a_second_writer_of_the_topic_is_refused_by_name(
    spark: SparkSession, clicks: UseCase, broker: Broker, tmp_path: Path
) -> None:
    lake = topic_lake(broker, clicks, tmp_path)
    send(broker, lake, "a")
    with running_stream(spark, clicks, lake) as stream:
        refused = other_writer(lake)
        assert f"writer.lock: the lease is held by process {os.getpid()}" in refused.stderr
        assert 0 != refused.returncode
        stream.catch_up()
    assert Counter("a") == ids(spark, lake)


def test_poison_ends_in_quarantine_with_its_partition_and_offset(
    spark: SparkSession, clicks: UseCase, broker: Broker, tmp_path: Path
) -> None:
    lake = topic_lake(broker, clicks, tmp_path, partitions=2)
    assert lake.kafka is not None
    send(broker, lake, "before", partition=1)
    broker.send(lake.kafka, POISON, ARRIVAL, partition=1)
    send(broker, lake, "after", partition=1)
    ingest_available(spark, clicks, lake)
    rows = {(row["origin"], row["line"]): row for row in rows_of(spark, lake.quarantine)}
    expected = {(lake.kafka.origin(1), i): s for i, s in enumerate(POISON.values(), 1) if s}
    assert expected.keys() == rows.keys()
    assert {} == {
        at: rows[at]["reasons"] for at, s in expected.items() if s not in rows[at]["reasons"]
    }
    kept = [row["payload"] for row in rows.values()]
    assert [(value or b"")[: MAX_BYTES + 1] for value, s in POISON.items() if s] == kept
    assert Counter(["before", "p3", "after"]) == ids(spark, lake)
    assert conservation(spark, lake).holds
    assert 0 == mended(spark, clicks, lake, tmp_path / "mended.jsonl"), "not by its head either"


def test_what_retention_removes_is_a_fault_only_if_it_was_not_taken(
    spark: SparkSession, clicks: UseCase, broker: Broker, tmp_path: Path
) -> None:
    lake = topic_lake(broker, clicks, tmp_path)
    assert lake.kafka is not None
    send(broker, lake, "a", "b", "c")
    ingest_available(spark, clicks, lake)
    broker.forget(lake.kafka, before=3)
    send(broker, lake, "d", "e", "f")
    assert (3, 3, 3, True) == counted(conservation(spark, lake))
    broker.forget(lake.kafka, before=5)
    found = conservation(spark, lake)
    assert ((lake.kafka.origin(0),), 1, False) == (found.wrong_origins, found.waiting, found.holds)
    with pytest.raises(
        ValueError, match="partition 0 begins at offset 5, and 3 to 4 were not taken"
    ):
        ingest_available(spark, clicks, lake)


def test_another_topic_of_the_same_name_is_refused(
    spark: SparkSession, clicks: UseCase, broker: Broker, tmp_path: Path
) -> None:
    lake = topic_lake(broker, clicks, tmp_path)
    assert lake.kafka is not None
    send(broker, lake, "a", "b")
    ingest_available(spark, clicks, lake)
    broker.delete(lake.kafka.topic)
    with pytest.raises(ValueError, match=rf"^{lake.kafka}: the broker has no such topic"):
        conservation(spark, lake)
    broker.topic(lake.kafka.topic)
    with pytest.raises(ValueError, match="ends at offset 0, but all before 2 were taken"):
        ingest_available(spark, clicks, lake)
    assert (lake.kafka.origin(0),) == conservation(spark, lake).wrong_origins


def test_files_and_topic_are_one_stream_whose_sources_are_not_exchanged(
    spark: SparkSession, clicks: UseCase, broker: Broker, tmp_path: Path
) -> None:
    lake = topic_lake(broker, clicks, tmp_path / "root", partitions=2)
    land_at(lake, to_file(tmp_path / "f.jsonl", [*events(*"def")[2:], b"broken"]))
    send(broker, lake, *"abc")
    send(broker, lake, *"def", partition=1)
    ingest_available(spark, clicks, lake, max_batch_records=2)
    found = conservation(spark, lake)
    assert (8, 6, 1, 1, 0, True) == (
        found.records, found.events, found.duplicates, found.quarantined, found.waiting,
        found.holds,
    )  # fmt: skip
    assert 3 == max(row["seq"] for row in rows_of(spark, lake.events))
    with pytest.raises(ValueError, match=r"was begun with the Kafka topic t\w+, not with no Kafka"):
        ingest_available(spark, clicks, replace(lake, kafka=None))
    other = topic_lake(broker, clicks, lake.root)
    with pytest.raises(
        ValueError, match=r"was begun with the Kafka topic t\w+, not with the Kafka"
    ):
        conservation(spark, other)


@pytest.mark.full
def test_the_command_takes_the_topic_and_the_doctor_knows_it(
    clicks: UseCase, broker: Broker, tmp_path: Path
) -> None:
    lake = topic_lake(broker, clicks, tmp_path)
    send(broker, lake, "a", "b")

    def headrace(*command: str, url: str = str(lake.kafka)) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from dagster_project.cli import main; main()", *command,
             "--root", str(tmp_path)],
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
            env={**os.environ, "HEADRACE_KAFKA": url},
        )  # fmt: skip

    done = headrace("ingest", "--json")
    assert 0 == done.returncode, done.stderr
    assert (2, True) == (
        json.loads(done.stdout)["added"]["events"],
        json.loads(done.stdout)["conservation"]["holds"],
    )
    without = headrace("ingest", str(to_file(tmp_path / "f.jsonl", [b"broken"])), url="")
    assert 1 == without.returncode
    assert "was begun with the Kafka topic" in without.stderr
    wrong = headrace("ingest", url="localhost:9092/t")
    assert 2 == wrong.returncode
    expected = "headrace: localhost:9092/t: not an address like kafka://host:9092/topic\n"
    assert expected == wrong.stderr
    found = json.loads(headrace("doctor", "--json").stdout)
    assert {"ok": True, "found": f"{lake.kafka}: its servers take connections"} == found["kafka"]
