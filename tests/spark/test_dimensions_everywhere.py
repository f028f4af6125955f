"""Keys from a dimension in either store: the same tables, states and answers, those of the oracle.

A row of the dimension that is loaded between two batches changes the keys of the second.
"""

import asyncio
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from data_contracts.clock import HOUR
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.views import digests_of
from serving.dimensions import DimensionReader
from serving.features import FeatureReader
from spark_jobs.dimensions import append_rows
from spark_jobs.stream import ingest_available
from tests.redis_server import RedisServer
from tests.spark.lakes import ARRIVAL, NOON, land_at, rows_of, to_file
from tests.spark.test_replay_of_a_batch import outcome
from tests.spark.world_log import BEGIN, END, ITEM, LATER, ROWS, WORLD

Q = NOON + 2 * HOUR
ASKED = [{"user_id": f"u{i}", "item_id": f"i{j}"} for i in range(4) for j in (0, 1, 4, 9)]
CATEGORIES = {"i0": "c0", "i1": "c2", "i4": "c3", "i9": None}
"""What the dimension holds at Q."""


def wanted(spark: SparkSession, lake: Lake) -> list[list[float]]:
    """The oracle's features of `ASKED`, of the events as they are in the table."""
    events = [
        {**event, "event_time": round(event["event_time"].timestamp() * 1e6)}
        for event in rows_of(spark, lake.events)
    ]
    found: list[list[float]] = []
    for row in ASKED:
        held = {**row, "category": CATEGORIES[row["item_id"]]}
        values: list[float] = []
        for group in WORLD.groups:
            key = tuple(held[name] for name in group.key_fields)
            nothing = group.default_values().tolist()
            values += nothing if None in key else oracle_features(group, events, key, Q)
        found.append(values)
    return found


def served(lake: Lake) -> list[list[float]]:
    full = asyncio.run(DimensionReader(WORLD, lake).filled(ASKED, Q))
    rows = [{"category": None, **row} for row in full]
    found = FeatureReader(WORLD, lake, digests_of(WORLD.groups)).read_now(rows, Q)
    assert not found.store_failed
    return found.values.tolist()


@pytest.mark.full
def test_sqlite_and_redis_end_in_the_same_and_answer_what_the_oracle_does(
    spark: SparkSession, redis_server: RedisServer, tmp_path: Path
) -> None:
    sqlite = Lake(tmp_path / "sqlite", WORLD.name)
    redis = Lake(tmp_path / "redis", WORLD.name, redis=redis_server.address)
    for number, (batch, rows) in enumerate(((BEGIN, ROWS), (END, LATER))):
        file = to_file(tmp_path / f"{number}.jsonl", batch)
        for lake in (sqlite, redis):
            append_rows(WORLD, lake, ITEM, rows)
            land_at(lake, file, at=ARRIVAL + number)
            ingest_available(spark, WORLD, lake)
    expected = outcome(spark, WORLD, sqlite)
    assert expected.counted and expected.counted.holds
    assert expected == outcome(spark, WORLD, redis)
    assert {"c2", "c3"} < {row["category"] for row in expected.tables["events"]}
    for lake in (sqlite, redis):
        assert wanted(spark, lake) == served(lake)
