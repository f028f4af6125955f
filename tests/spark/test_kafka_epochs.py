"""A topic whose checkpoint is lost: a new epoch goes on with it, and takes no record twice."""

import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.events import begin_anew
from data_contracts.clock import HOUR
from data_contracts.kafka import KafkaTopic
from data_contracts.lake import Lake
from data_contracts.states import read
from data_contracts.use_case import UseCase
from spark_jobs.checkpoint import checkpoint_of, epoch_file, read_epoch
from spark_jobs.conservation import conservation
from spark_jobs.epochs import begin_epoch
from spark_jobs.feature_store import OnlineStates
from spark_jobs.kafka import BrokerSilent
from spark_jobs.stream import ingest_available
from tests.kafka_broker import Broker
from tests.spark.lakes import ARRIVAL, NOON, impression, land_at, to_file
from tests.spark.test_kafka import payloads
from tests.spark.test_kafka_under_fire import counted, ids, other_writer, send, topic_lake
from tests.spark.test_replay_of_a_batch import FIRST, KEYS, THEN, table


def recorded(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    """The rows of all tables but for their seq."""
    return {
        name: [{k: v for k, v in row.items() if k != "seq"} for row in table(getattr(lake, name))]
        for name in ("events", "duplicates", "quarantine")
    }


def served(clicks: UseCase, lake: Lake) -> dict[str, np.ndarray]:
    found = {}
    for group in clicks.groups:
        keys = KEYS[group.name]
        states = OnlineStates(clicks, lake).read(group, keys)
        found[group.name] = read(group, [states.get(key) for key in keys], NOON + 2 * HOUR)
    return found


def go_on(
    spark: SparkSession, clicks: UseCase, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `headrace ingest --new-epoch` does, up to its first batch."""
    deployment = Deployment(clicks.name, lake.root, kafka=str(lake.kafka))
    monkeypatch.setitem(deployment.__dict__, "spark", spark)
    begin_anew(deployment)


@pytest.mark.parametrize(
    "stage",
    [
        "before_duplicates",
        pytest.param("before_append", marks=pytest.mark.full),
        pytest.param("before_quarantine", marks=pytest.mark.full),
        pytest.param("after_append", marks=pytest.mark.full),
    ],
)
def test_a_batch_that_died_with_its_checkpoint_is_taken_once(
    spark: SparkSession,
    clicks: UseCase,
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    """Partition 0 began at offset 2, partition 1 held nothing yet, and a file landed beside."""
    lake = topic_lake(broker, clicks, tmp_path / "root", partitions=3)
    assert lake.kafka is not None
    broker.send(lake.kafka, [b"removed"] * 2, ARRIVAL)
    broker.forget(lake.kafka, 2)
    broker.send(lake.kafka, payloads(FIRST), ARRIVAL)
    land_at(lake, to_file(tmp_path / "f.jsonl", [impression("f", NOON), b"broken"]))
    ingest_available(spark, clicks, lake)
    broker.send(lake.kafka, payloads(THEN), ARRIVAL)
    # Of a partition that was never read, the dying batch may leave out the first record.
    broker.send(lake.kafka, payloads([b"broken", impression("p1", NOON + HOUR)]), ARRIVAL, 1)
    dying = replace(lake, root=tmp_path / "dying")
    copytree(lake.root, dying.root)
    ingest_available(spark, clicks, lake)
    told = other_writer(dying, stage)
    assert -signal.SIGKILL == told.returncode, told.stderr

    rmtree(checkpoint_of(dying))
    with pytest.raises(ValueError, match=r"gone, but .*start another .*--new-epoch"):
        ingest_available(spark, clicks, dying)
    go_on(spark, clicks, dying, monkeypatch)
    epoch = read_epoch(epoch_file(dying))
    if stage in ("before_duplicates", "before_quarantine"):
        assert ((0, 0), [1]) == (epoch.offsets[1], epoch.beyond[lake.kafka.origin(1)])
    before = conservation(spark, dying)
    records = conservation(spark, lake).records
    assert (True, records) == (before.holds, before.records + before.waiting)
    for partition in range(3):
        more = [impression("more", NOON + HOUR), FIRST[1]]
        broker.send(lake.kafka, payloads(more), ARRIVAL, partition)
    for root in (lake, dying):
        ingest_available(spark, clicks, root)
    expected = conservation(spark, lake)
    assert expected.holds
    assert expected == conservation(spark, dying)
    assert recorded(lake) == recorded(dying)
    np.testing.assert_equal(served(clicks, dying), served(clicks, lake))


def test_an_epoch_that_is_lost_too_is_followed_by_one_that_begins_behind_it(
    spark: SparkSession,
    clicks: UseCase,
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What retention removed of the records that were taken is not missed."""
    lake = topic_lake(broker, clicks, tmp_path)
    assert lake.kafka is not None
    send(broker, lake, "removed")
    broker.forget(lake.kafka, 1)
    for number, name in enumerate("abc"):
        send(broker, lake, name)
        ingest_available(spark, clicks, lake)
        rmtree(checkpoint_of(lake))
        broker.forget(lake.kafka, 2 + number)
        go_on(spark, clicks, lake, monkeypatch)
        assert {0: (1, 2 + number)} == read_epoch(epoch_file(lake)).offsets
    assert (3, 3, 0, True) == counted(conservation(spark, lake))
    assert Counter("abc") == ids(spark, lake)


def test_what_the_broker_lacks_of_the_topic_is_named_and_nothing_begins(
    spark: SparkSession, clicks: UseCase, broker: Broker, tmp_path: Path
) -> None:
    lake = topic_lake(broker, clicks, tmp_path)
    assert lake.kafka is not None
    send(broker, lake, "a", "b", "c")
    ingest_available(spark, clicks, lake)
    send(broker, lake, "d", "e", "f")
    rmtree(checkpoint_of(lake))
    kept = epoch_file(lake).read_bytes()
    broker.forget(lake.kafka, 5)
    named = rf"^{lake.kafka}: partition 0 "
    with pytest.raises(ValueError, match=f"{named}begins at offset 5, and 3 to 4 were not taken"):
        begin_epoch(spark, clicks, lake)
    broker.delete(lake.kafka.topic)
    with pytest.raises(ValueError, match="the broker has no such topic"):
        begin_epoch(spark, clicks, lake)
    broker.topic(lake.kafka.topic)
    with pytest.raises(ValueError, match=f"{named}ends at offset 0, but all before 3 were taken"):
        begin_epoch(spark, clicks, lake)
    with pytest.raises(BrokerSilent, match=r"no broker answers .*: start it"):
        begin_epoch(spark, clicks, replace(lake, kafka=KafkaTopic("127.0.0.1:1", lake.kafka.topic)))
    for other in (None, KafkaTopic(broker.servers, "other")):
        with pytest.raises(ValueError, match=f"begun with the Kafka topic {lake.kafka.topic}, not"):
            begin_epoch(spark, clicks, replace(lake, kafka=other))
    assert kept == epoch_file(lake).read_bytes()


@pytest.mark.parametrize("removed", [0, 1])
def test_a_lake_of_an_older_build_goes_on_where_nothing_can_be_missed(
    spark: SparkSession,
    clicks: UseCase,
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    removed: int,
) -> None:
    """It did not keep where its topic began, which may have been at 0 once the checkpoint is lost.

    A checkpoint that is there tells it."""
    lake = topic_lake(broker, clicks, tmp_path)
    assert lake.kafka is not None
    broker.send(lake.kafka, [b"removed"] * removed, ARRIVAL)
    broker.forget(lake.kafka, removed)
    send(broker, lake, "a", "b")
    ingest_available(spark, clicks, lake)
    epoch_file(lake).unlink()
    send(broker, lake, "c")
    ingest_available(spark, clicks, lake)
    assert {0: (removed, removed)} == read_epoch(epoch_file(lake)).offsets

    epoch_file(lake).unlink()
    rmtree(checkpoint_of(lake))
    if removed:
        with pytest.raises(ValueError, match="begins at offset 1, and 0 to 0 were not taken yet"):
            begin_epoch(spark, clicks, lake)
        return
    go_on(spark, clicks, lake, monkeypatch)
    send(broker, lake, "d")
    ingest_available(spark, clicks, lake)
    assert Counter("abcd") == ids(spark, lake)
    assert (4, 4, 0, True) == counted(conservation(spark, lake))
