"""Redis dies, or comes back without what it held: the stream stops in one line and is healed."""

from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import pytest
from pyspark.sql import SparkSession

from data_contracts.clock import DAY, HOUR, MINUTE, SECOND
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of
from serving.features import FeatureReader
from spark_jobs.conservation import conservation
from spark_jobs.materialize import materialize
from spark_jobs.stream import ingest_available, running_stream
from tests.redis_server import PASSWORD, RedisServer
from tests.spark.lakes import ARRIVAL, NOON, ended, impression, land_at, to_file

PARTS = 3
ROWS = [{"user_id": f"u{i % 4}", "item_id": f"i{i}"} for i in range(6)]


@pytest.fixture
def lake(tmp_path: Path, clicks: UseCase, own_redis: RedisServer) -> Lake:
    return Lake(tmp_path / "root", clicks.name, redis=own_redis.address)


def land_part(lake: Lake, part: int) -> None:
    """Land events of a day of its own, one of them late."""
    at = NOON + part * DAY
    events = [
        impression(f"{part}-{i}", at + i * SECOND, user=f"u{i % 3}", item=f"i{i % 5}")
        for i in range(12)
    ]
    events.append(
        impression(f"{part}-late", at - HOUR, user="u0", arrived_at=events[0]["arrived_at"])
    )
    land_at(lake, to_file(lake.root / f"{part}.jsonl", events), at=ARRIVAL + part * DAY)


def reads(use_case: UseCase, lake: Lake) -> list[Any]:
    reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
    last = NOON + (PARTS - 1) * DAY
    moments = [last + 12 * SECOND, last + 10 * MINUTE, last + 3 * HOUR, last + 30 * HOUR]
    served = [reader.read_now(ROWS, q) for q in moments]
    assert (0, moments) == (reader.failures, [answer.q for answer in served])
    return [answer.values.tolist() for answer in served]


def refused(error: pytest.ExceptionInfo[RuntimeError], lake: Lake, said: str) -> None:
    text = str(error.value)
    assert text.startswith(f"{lake.redis}: ") and said in text
    assert "\n" not in text and PASSWORD not in text


def undisturbed(spark: SparkSession, use_case: UseCase, lake: Lake) -> list[Any]:
    """What a lake in a file reads that took the same parts."""
    other = Lake(lake.root.with_name("undisturbed"), use_case.name)
    for part in range(PARTS):
        land_part(other, part)
    ingest_available(spark, use_case, other)
    return reads(use_case, other)


def healed(spark: SparkSession, use_case: UseCase, lake: Lake) -> None:
    """The store is rebuilt, the rest of the log taken, and everything is as if nothing happened."""
    assert 0 == materialize(spark, use_case, lake).mismatches
    ingest_available(spark, use_case, lake)
    found = conservation(spark, lake)
    assert (True, 13 * PARTS, 0) == (found.holds, found.events, found.waiting)
    assert undisturbed(spark, use_case, lake) == reads(use_case, lake)


def test_redis_killed_while_the_stream_writes_is_named_and_rebuilt_by_materialize(
    spark: SparkSession, clicks: UseCase, lake: Lake, own_redis: RedisServer
) -> None:
    def kill_in_mid_stream() -> None:
        with running_stream(spark, clicks, lake) as stream:
            land_part(lake, 0)
            stream.catch_up()
            own_redis.kill()
            land_part(lake, 1)
            stream.catch_up()

    with pytest.raises(RuntimeError) as error:
        kill_in_mid_stream()
    refused(error, lake, "Connection refused.: see that Redis runs there")
    assert {"0.jsonl"} == {file for file, _ in ended(spark, lake)}, "the batch is not committed"
    with pytest.raises(RuntimeError) as error:
        ingest_available(spark, clicks, lake)
    refused(error, lake, "Connection refused.: see that Redis runs there")
    own_redis.start()
    with pytest.raises(RuntimeError) as error:
        ingest_available(spark, clicks, lake)
    refused(error, lake, "holds micro-batches up to 0, but 1 were written: it was emptied")
    land_part(lake, 2)
    healed(spark, clicks, lake)


@pytest.mark.full
def test_redis_that_comes_back_empty_between_two_batches_is_noticed_before_the_append(
    spark: SparkSession, clicks: UseCase, lake: Lake, own_redis: RedisServer
) -> None:
    def empty_in_mid_stream() -> None:
        with running_stream(spark, clicks, lake) as stream:
            for part in (0, 1):
                land_part(lake, part)
                stream.catch_up()
            own_redis.kill()
            own_redis.start()
            land_part(lake, 2)
            stream.catch_up()

    with pytest.raises(RuntimeError) as error:
        empty_in_mid_stream()
    refused(error, lake, "holds micro-batches up to 0, but 2 were written: it was emptied")
    assert {"0.jsonl", "1.jsonl"} == {file for file, _ in ended(spark, lake)}
    healed(spark, clicks, lake)


def test_redis_ahead_of_a_root_that_was_set_back_is_refused_and_emptied_before_it_is_filled(
    spark: SparkSession, clicks: UseCase, lake: Lake
) -> None:
    """What only the lost days had touched is gone from the store, u3 among it."""
    land_part(lake, 0)
    ingest_available(spark, clicks, lake)
    kept = lake.root.with_name("kept")
    copytree(lake.root, kept)
    lost = [impression("lost", NOON + DAY, user="u3", item="i5")]
    land_at(lake, to_file(lake.root / "lost.jsonl", lost), at=ARRIVAL + 1)
    ingest_available(spark, clicks, lake)
    rmtree(lake.root)
    kept.rename(lake.root)
    land_part(lake, 1)
    with pytest.raises(RuntimeError) as error:
        ingest_available(spark, clicks, lake)
    refused(error, lake, "holds micro-batches up to 2, but this root has planned no more than 1")
    assert {"0.jsonl"} == {file for file, _ in ended(spark, lake)}
    land_part(lake, 2)
    healed(spark, clicks, lake)
