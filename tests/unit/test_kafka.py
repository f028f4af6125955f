"""Where a topic is named, and what its records and its checkpoint are taken for."""

from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import pytest

from dagster_project.deployment import Deployment
from data_contracts.clock import HOUR
from data_contracts.kafka import KafkaTopic
from data_contracts.lake import Lake
from data_contracts.use_case import load_use_case
from spark_jobs.checkpoint import (
    Consumed,
    Epoch,
    checkpoint_of,
    consumed,
    consumed_of_sources,
    epoch_file,
    read_epoch,
    write_epoch,
)
from spark_jobs.conservation import _taken
from spark_jobs.gate import judge
from spark_jobs.kafka import Held
from tests.spark.lakes import NOON, impression, to_line

TOPIC = KafkaTopic("a:9092,b.example:9093", "shop.events")
CONTRACT = load_use_case("clicks").contract


def test_a_topic_is_named_by_its_address() -> None:
    assert TOPIC == KafkaTopic.parse("kafka://a:9092,b.example:9093/shop.events")
    assert TOPIC == KafkaTopic.parse(str(TOPIC))
    assert "shop.events/3" == TOPIC.origin(3)


@pytest.mark.parametrize(
    "url",
    ["", "shop", "a:9092/shop", "kafka://a/shop", "kafka://a:9092", "kafka://a:9092/",
     "kafka://a:9092/sh op", "kafka://a:9092/shop/1", "kafka://a:9092/shop\n", "http://a:9092/shop"],
)  # fmt: skip
def test_what_is_no_address_of_a_topic_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an address like kafka://host:9092/topic"):
        KafkaTopic.parse(url)


def test_a_deployment_carries_its_topic_through_the_environment(tmp_path: Path) -> None:
    deployment = Deployment(root=tmp_path, kafka=str(TOPIC))
    assert TOPIC == deployment.lake.kafka
    assert (
        deployment.environment()
        == deployment.from_environment(deployment.environment()).environment()
    )
    without = replace(deployment, kafka=None).environment()
    assert Deployment.from_environment({"HEADRACE_KAFKA": str(TOPIC), **without}).kafka is None


def test_a_tombstone_is_refused_and_keeps_its_place() -> None:
    row = judge(CONTRACT, TOPIC.origin(0), 7, None)
    assert "record: has no value (a tombstone), an object is needed" == row["reasons"]
    assert ("shop.events/0", 7, b"") == (row["origin"], row["line"], row["payload"])


@pytest.mark.parametrize(
    ("stamp", "arrived", "reason"),
    [
        (None, NOON, None),
        (None, None, None),
        (None, NOON - HOUR, "event_time: 3600 s after its arrival"),
        (NOON + HOUR, NOON, "arrived_at: 3600 s after it arrived"),
        (NOON + HOUR, NOON + HOUR, None),
    ],
)
def test_the_timestamp_of_kafka_is_an_arrival_like_that_of_a_file(
    stamp: int | None, arrived: int | None, reason: str | None
) -> None:
    event = {**impression("e", NOON), "arrived_at": None}
    if stamp is not None:
        event["arrived_at"] = impression("", stamp)["arrived_at"]
    reasons = judge(CONTRACT, TOPIC.origin(0), 7, to_line(event), arrived).get("reasons")
    assert reason == (reasons and reasons[: len(reason or "")])


@pytest.fixture
def begun(tmp_path: Path) -> Lake:
    """A lake whose topic had begun at offset 5 of partition 0, before partition 1 was added."""
    lake = Lake(tmp_path, "clicks", TOPIC)
    files = {
        "commits/2": "v1\n{}",
        "offsets/2": 'v1\n{}\n{"f.jsonl":{"bytes":9,"lines":1}}\n{"shop.events":{"1":4,"0":8}}',
        "sources/1/0": '\0v1\n{"shop.events":{"0":5}}',
    }
    for name, text in files.items():
        (checkpoint_of(lake) / name).parent.mkdir(parents=True)
        (checkpoint_of(lake) / name).write_text(text)
    return lake


def test_the_checkpoint_says_where_each_partition_began_and_goes_on(begun: Lake) -> None:
    expected = Consumed(3, {"f.jsonl": 9}, {0: (5, 8), 1: (0, 4)}, "shop.events")
    assert expected == consumed_of_sources(begun)
    assert expected == consumed(replace(begun, kafka=None))


def test_what_the_epoch_keeps_of_the_topic_outlives_the_checkpoint(begun: Lake) -> None:
    """Spark notes where a checkpoint began, the epoch where the lake did."""
    kept = Epoch(1, 3, topic="shop.events", offsets={0: (2, 5), 2: (1, 1)})
    write_epoch(epoch_file(begun), kept)
    assert kept == read_epoch(epoch_file(begun))
    expected = Consumed(6, {"f.jsonl": 9}, {0: (2, 8), 1: (0, 4)}, "shop.events")
    assert expected == consumed_of_sources(begun)
    rmtree(checkpoint_of(begun))
    assert Consumed(3, {}, {0: (2, 5), 2: (1, 1)}, "shop.events") == consumed_of_sources(begun)
    write_epoch(epoch_file(begun), replace(kept, number=0, seq=0))
    with pytest.raises(
        ValueError, match=r"was begun with the Kafka topic shop\.events, not with no"
    ):
        consumed_of_sources(replace(begun, kafka=None))


@pytest.mark.parametrize("topic", [None, KafkaTopic("a:9092", "other")])
def test_the_sources_of_a_lake_cannot_be_exchanged(begun: Lake, topic: KafkaTopic | None) -> None:
    with pytest.raises(ValueError, match=r"was begun with the Kafka topic shop\.events, not with "):
        consumed_of_sources(replace(begun, kafka=topic))
    offsets = checkpoint_of(begun) / "offsets" / "2"
    offsets.write_text("v1\n{}\n-")
    assert Consumed(3) == consumed_of_sources(replace(begun, kafka=None))
    with pytest.raises(ValueError, match="was begun with no Kafka topic, not with the Kafka topic"):
        consumed_of_sources(begun)


def test_records_before_the_very_first_batch_that_the_broker_still_has_were_not_taken() -> None:
    lake = Lake(Path("lake"), "clicks", kafka=TOPIC)
    upto = Consumed(offsets={0: (5, 9), 1: (0, 3), 2: (4, 4), 3: (2, 2)})
    broker = {0: Held(4, 12), 1: Held(2, 3), 2: Held(3, 4), 3: Held(2, 2)}
    expected = {TOPIC.origin(0): None, TOPIC.origin(1): (0, 3), TOPIC.origin(2): None}
    assert expected == _taken(lake, broker, upto)
