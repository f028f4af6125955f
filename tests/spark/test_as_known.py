"""Data sets from what could be read online at each row's time, beside what had happened."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import MINUTE, SECOND, parse_time
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.use_case import UseCase
from spark_jobs.dataset import build_dataset, compared_as_known
from spark_jobs.events import load_events
from spark_jobs.schemas import RAW
from spark_jobs.stream import MicroBatches
from spark_jobs.training_set import build_training_set
from spark_jobs.visibility import note_visible, visible_at, with_known_at
from tests.spark.lakes import NOON, click, impression, rows_of, to_line, typed

LAG = 5 * SECOND
IMPORTED = [impression(f"old{i}", NOON + i * 2 * SECOND, user="u0") for i in range(30)]
WANTED = ["user_impressions_10m", "item_impressions_1h"]


def feed(
    spark: SparkSession,
    clicks: UseCase,
    lake: Lake,
    number: int,
    events: list[dict[str, object]],
    origin: str = "",
) -> None:
    named = origin or f"http-{number}.jsonl"
    lines = [(named, i, to_line(event)) for i, event in enumerate(events, 1)]
    batches = MicroBatches(spark, clicks, lake)
    batches.process(spark.createDataFrame(lines, RAW), number)


def noted(spark: SparkSession, lake: Lake) -> dict[int, int]:
    return {row["seq"]: row["visible_at"] for row in visible_at(spark, lake).collect()}


def test_a_row_sees_what_could_be_read_by_its_time(
    spark: SparkSession, clicks: UseCase, lake: Lake, tmp_path: Path
) -> None:
    feed(spark, clicks, lake, 0, IMPORTED, "replay-0.jsonl")
    (began,) = noted(spark, lake).values()
    live = [impression(f"live{i}", began + i * SECOND, user="u0") for i in range(2)]
    live.append(click("live0", began + 2 * SECOND, user="u0"))
    feed(spark, clicks, lake, 1, live)
    seen = noted(spark, lake)[2]
    known = {event["event_id"]: parse_time(event["arrived_at"]) + LAG for event in IMPORTED}
    known |= {e["event_id"]: max(parse_time(e["arrived_at"]), seen) for e in live}
    asked = [NOON + 31 * SECOND, NOON + MINUTE + 4 * SECOND, seen - 1, seen + 1]
    asked += [began + 2 * SECOND + 1]
    times = pa.array(asked, pa.timestamp("us", "UTC"))
    keys = {"user_id": ["u0"] * len(asked), "item_id": ["i1"] * len(asked), "at": times}
    pq.write_table(pa.table(keys), tmp_path / "labels.parquet")
    parts = (spark, clicks, lake, tmp_path / "labels.parquet", tmp_path / "out")
    assert len(asked) == build_dataset(*parts, WANTED, "at", only_known=True)
    events = typed(clicks, [*IMPORTED, *live])
    expected = []
    for q in asked:
        visible = [event for event in events if known[event["event_id"]] <= q]
        values = {
            name: value
            for group, key in zip(clicks.groups, ("u0", "i1"), strict=True)
            for name, value in zip(
                group.feature_names, oracle_features(group, visible, key, q), strict=True
            )
        }
        expected.append([values[name] for name in WANTED])
    found = pq.read_table(tmp_path / "out").sort_by("at")
    by_time = [expected[i] for i in sorted(range(len(asked)), key=asked.__getitem__)]
    assert by_time == [[row[name] for name in WANTED] for row in found.to_pylist()]
    frame = spark.read.parquet(str(tmp_path / "out"))
    said = compared_as_known(spark, clicks, lake, frame, "at", WANTED)
    assert (3, 30, "5s") == tuple(
        said[name] for name in ("events_recorded", "events_assumed", "assumed_lag")
    )
    assert set(WANTED) == set(said["features"])
    assert 0 < said["features"]["user_impressions_10m"]["differ"] <= 1
    assert said["features"]["user_impressions_10m"]["mean_abs"] > 0
    silent = replace(clicks, declared=replace(clicks.declared, assumed_lag=""))
    with pytest.raises(ValueError, match="30 of 33 events were imported, and nobody noted"):
        with_known_at(spark, silent, lake, load_events(spark, silent, lake))
    build_training_set(spark, clicks, lake, only_known=True)
    row = next(r for r in rows_of(spark, lake.training_set) if r["event_id"] == "old29")
    q = NOON + 58 * SECOND
    assert sum(at <= q for at in known.values()) == row["user_impressions_10m"]


@pytest.mark.parametrize("origin", ["clicks/0", "http-1.jsonl"])
def test_the_backlog_of_a_topic_or_a_collector_is_known_from_the_first_batch_on(
    spark: SparkSession, clicks: UseCase, lake: Lake, origin: str
) -> None:
    """Nobody could read it before, however early it arrived; so no lag has to be assumed."""
    silent = replace(clicks, declared=replace(clicks.declared, assumed_lag=""))
    feed(spark, silent, lake, 0, IMPORTED, origin)
    (began,) = noted(spark, lake).values()
    told = with_known_at(spark, silent, lake, load_events(spark, silent, lake))
    assert (30, 0) == (told.recorded, told.assumed)
    known = told.events.select(sf.unix_micros("_known_at")).distinct().collect()
    assert [(began,)] == [tuple(row) for row in known]


def test_of_a_batch_that_comes_again_the_first_note_counts_and_a_torn_one_does_not(
    spark: SparkSession, lake: Lake
) -> None:
    assert {} == noted(spark, lake)
    note_visible(lake, 1)
    first = noted(spark, lake)
    with open(lake.stream / "visible_at.jsonl", "a") as log:
        for seq, at in ((1, 5), (7, 7), (7, 5)):
            log.write(json.dumps({"seq": seq, "visible_at": at}) + "\n")
        log.write(json.dumps({"seq": 2, "visible_at": 5})[:-1])
    note_visible(lake, 3)
    found = noted(spark, lake)
    assert ({**first, 7: 7}, {1, 3, 7}) == ({1: found[1], 7: found[7]}, set(found))
