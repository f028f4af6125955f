"""A clock that was set back stops nothing, and what arrived before what came first is no fault."""

import json
import time
from pathlib import Path

from pyspark.sql import SparkSession

from data_contracts.clock import DAY, HOUR, SECOND, format_time
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.conservation import conservation
from spark_jobs.feature_store import OnlineStates
from spark_jobs.materialize import materialize
from spark_jobs.stream import ingest_available
from spark_jobs.write_clock import WriteClock
from tests.spark.lakes import ARRIVAL, NOON, ended, impression, land_at, to_file

AHEAD = time.time_ns() // 1000 + 3650 * DAY
"""When the last write was, as far as a clock said that has been set right since."""
C = impression("c", NOON + HOUR, user="u0", arrived_at=format_time(NOON + HOUR - 30 * SECOND))


def test_writes_go_on_from_the_latest_moment_that_a_clock_ever_told(tmp_path: Path) -> None:
    path = tmp_path / "write_clock.json"
    path.write_text(json.dumps({"last": AHEAD}))
    ticks = [WriteClock(path).tick() for _ in range(3)]
    assert sorted(set(ticks)) == ticks
    assert AHEAD + 3 == json.loads(path.read_text())["last"]


def test_the_stream_goes_on_and_every_engine_agrees(
    spark: SparkSession, clicks: UseCase, lake: Lake, tmp_path: Path
) -> None:
    logs = [
        ([impression(f"a{i}", NOON + i * SECOND, user=f"u{i % 2}") for i in range(6)], ARRIVAL),
        ([impression(f"b{i}", NOON - HOUR + i, user=f"u{i % 2}") for i in range(4)], ARRIVAL - DAY),
        ([C], ARRIVAL - 2 * DAY),
    ]
    clock = lake.stream / "write_clock.json"
    for i, (log, arrived_at) in enumerate(logs):
        land_at(lake, to_file(tmp_path / f"{i}.jsonl", log), at=arrived_at)
        ingest_available(spark, clicks, lake)
        if not i:
            clock.write_text(json.dumps({"last": AHEAD}))
    assert json.loads(clock.read_text())["last"] > AHEAD
    assert [["events"]] * 11 == list(ended(spark, lake).values())
    found = conservation(spark, lake)
    assert (11, 0, True) == (found.events, found.waiting, found.holds)
    states = OnlineStates(clicks, lake).read(clicks.groups[0], ["u0", "u1"])
    assert {"u0": 3, "u1": 2} == {user: state.seq for user, state in states.items()}
    assert NOON + 5 * SECOND == states["u1"].as_of, "an as-of never goes back"
    rebuilt = materialize(spark, clicks, lake)
    assert (0, True) == (rebuilt.mismatches, rebuilt.compared > 0)
