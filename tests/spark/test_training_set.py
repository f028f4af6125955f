"""The training set against naive Python: features, labels, split; and leaks on purpose."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from data_contracts.built_from import built_from, read_built_from
from data_contracts.clock import HOUR, MINUTE, SECOND, format_time
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.use_case import UseCase
from data_contracts.windows import Sliding, Time
from spark_jobs.imports import import_log
from spark_jobs.labels import label_rows
from spark_jobs.stream import ingest_available
from spark_jobs.tables import load
from spark_jobs.training_set import build_training_set, with_features, with_split
from tests.spark.lakes import click, land_at, to_file, typed

WITHIN = 30 * MINUTE
DELAYS = (0, 10 * SECOND, WITHIN, WITHIN + 1, -1)
"""Of the clicks that are added to the log: the last two are not in the attribution window."""


@dataclass(frozen=True)
class Built:
    events: list[dict[str, Any]]
    """Typed by the contract, times in µs, in order of time."""
    rows: dict[str, dict[str, Any]]
    """The training set by event_id, `q` in µs."""
    counts: dict[str, int]
    lake: Lake


def real_log(clicks: UseCase, lake: Lake) -> list[dict[str, Any]]:
    """The first impressions of three real days, three to a page, every seventh one clicked."""
    assert clicks.log is not None
    log: list[dict[str, Any]] = []
    for day in import_log(clicks, lake, clicks.log).days[:3]:
        events = map(json.loads, day.read_bytes().split(b"\n")[:120])
        log += [event for event in events if event["event_type"] == "impression"]
    added: list[dict[str, Any]] = []
    for i, (event, one) in enumerate(zip(log, typed(clicks, log), strict=True)):
        event["request_id"] = f"page-{i // 3}"
        if i % 7 == 0:
            at = one["event_time"] + DELAYS[i // 7 % len(DELAYS)]
            added.append(click(event["event_id"], at, event["user_id"], event["item_id"]))
    return [*log, *added]


@pytest.fixture(scope="module")
def built(spark: SparkSession, clicks: UseCase, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Two batches, both out of order, the second all late."""
    folder = tmp_path_factory.mktemp("training_set")
    lake = Lake(folder / "root", clicks.name)
    log = real_log(clicks, lake)
    land_at(lake, to_file(folder / "even.jsonl", log[::-2]))
    ingest_available(spark, clicks, lake)
    land_at(lake, to_file(folder / "odd.jsonl", log[-2::-2]))
    ingest_available(spark, clicks, lake)
    counts = build_training_set(spark, clicks, lake)
    events = sorted(typed(clicks, log), key=lambda event: event["event_time"])
    return Built(events, collected(load(spark, lake.training_set)), counts, lake)


def collected(frame: DataFrame) -> dict[str, dict[str, Any]]:
    rows = frame.withColumn("q", sf.unix_micros("q")).toArrow().to_pylist()
    found = {row["event_id"]: row for row in rows}
    assert len(found) == len(rows), "a label row stands twice"
    return found


def naive_labels(
    events: Sequence[Mapping[str, Any]], first_per: tuple[str, ...] = ()
) -> dict[str, tuple[int, int, bool]]:
    """event_id -> (q, label, mature), by looking at every pair of events."""
    rows, shown, taken = [], [], set()
    for event in sorted(events, key=lambda e: (e["event_time"], e["event_id"])):
        if event["event_type"] == "impression":
            shown.append(event)
            combination = tuple(event[name] for name in first_per)
            if not first_per or combination not in taken:
                rows.append(event)
                taken.add(combination)
    end = max(event["event_time"] for event in events if event["event_type"] == "click")
    found = {}
    for row in rows:
        label = 0
        for other in events:
            mine = other["event_type"] == "click" and other["impression_id"] == row["event_id"]
            if mine and 0 <= other["event_time"] - row["event_time"] <= WITHIN:
                label = 1
        q = min(r["event_time"] for r in shown if r["request_id"] == row["request_id"])
        found[row["event_id"]] = q, label, row["event_time"] + WITHIN <= end
    return found


def leaks(
    groups: Sequence[FeatureGroup],
    events: Sequence[Mapping[str, Any]],
    query_times: Mapping[str, int],
    rows: Mapping[str, Mapping[str, Any]],
) -> set[str]:
    """Features that events strictly before the query time cannot explain, in any row."""
    found: set[str] = set()
    for name, row in rows.items():
        q = query_times[name]
        before = [event for event in events if event["event_time"] < q]
        for group in groups:
            expected = oracle_features(group, before, row[group.entity], q)
            values = dict(zip(group.feature_names, expected, strict=True))
            found |= {feature for feature, value in values.items() if value != row[feature]}
    return found


def test_every_feature_of_every_row_equals_the_oracle(built: Built, clicks: UseCase) -> None:
    assert len(built.rows) > 300
    seen: set[str] = set()
    for row in built.rows.values():
        for group in clicks.groups:
            expected = oracle_features(group, built.events, row[group.entity], row["q"])
            assert expected == [row[name] for name in group.feature_names]
            given = zip(group.feature_names, expected, group.default_values(), strict=True)
            seen |= {name for name, value, default in given if value != default}
    always_default = set(clicks.feature_names) - seen
    assert {"user_affinity_10m", "item_affinity_10m"} >= always_default, "they prove nothing"


def test_its_commit_says_of_which_events_and_definitions_it_was_made(
    built: Built, clicks: UseCase
) -> None:
    newest = DeltaTable(built.lake.training_set).history(1)[0]
    events = DeltaTable(built.lake.events).version()
    assert built_from(clicks, {"events": events}) == read_built_from(newest["userMetadata"])


def test_labels_query_times_and_maturity_equal_a_double_loop(built: Built) -> None:
    expected = naive_labels(built.events)
    mature = {name: (q, label) for name, (q, label, settled) in expected.items() if settled}
    assert mature == {name: (row["q"], row["label"]) for name, row in built.rows.items()}
    assert {0, 1} == {label for _, label in mature.values()}
    assert 0 < len(mature) < len(expected)


@pytest.mark.parametrize(
    ("alive", "complete_by", "expected"),
    [
        ({}, (), [0, 1, 2]),
        ({"heartbeat": 6 * HOUR}, (), [0, 1, 2]),
        ({"heartbeat": 6 * HOUR}, ("heartbeat",), [0, 1, 2, 3, 4, 5]),
        ({"heartbeat": HOUR}, ("heartbeat",), [0, 1, 2]),
    ],
    ids=["clicks alone", "no witness", "a later heartbeat", "an earlier heartbeat"],
)
def test_a_stopped_click_stream_turns_no_impression_into_a_negative(
    spark: SparkSession,
    clicks: UseCase,
    alive: dict[str, int],
    complete_by: tuple[str, ...],
    expected: list[int],
) -> None:
    """Ten hours of impressions; the last click is of 3:00, half an hour closes a window."""
    rows = [(f"{hour}", "impression", hour * HOUR, None) for hour in range(10)]
    rows += [("c", "click", 3 * HOUR, "3"), *((k, k, at, None) for k, at in alive.items())]
    columns = "event_id string, event_type string, event_time long, impression_id string"
    events = spark.createDataFrame(rows, columns).withColumn("request_id", sf.col("event_id"))
    events = events.withColumn("event_time", sf.timestamp_micros("event_time"))
    label = replace(clicks.label, complete_by=complete_by)
    use_case = replace(clicks, declared=replace(clicks.declared, label=label))
    found = label_rows(use_case, events).collect()
    assert expected == sorted(int(row["event_id"]) for row in found if row["mature"])
    assert {"3"} == {row["event_id"] for row in found if row["label"]}


def test_without_any_click_nothing_matures(
    spark: SparkSession, clicks: UseCase, built: Built
) -> None:
    shown = load(spark, built.lake.events).where("event_type = 'impression'")
    assert {False} == {row["mature"] for row in label_rows(clicks, shown).collect()}


def test_only_the_first_row_of_each_combination_is_kept_where_the_label_says_so(
    spark: SparkSession, built: Built, clicks: UseCase
) -> None:
    first_per = ("user_id", "item_id")
    label = replace(clicks.label, first_per=first_per)
    use_case = replace(clicks, declared=replace(clicks.declared, label=label))
    rows = collected(label_rows(use_case, load(spark, built.lake.events)))
    expected = naive_labels(built.events, first_per)
    found = {name: (row["q"], row["label"], row["mature"]) for name, row in rows.items()}
    assert expected == found
    assert len(found) < len(naive_labels(built.events))


def test_the_split_goes_by_time_and_no_label_window_crosses_a_border(
    built: Built, clicks: UseCase
) -> None:
    times = [row["q"] for row in built.rows.values()]
    share = clicks.declared.split
    first = int(np.percentile(times, 100 * share.train))
    second = int(np.percentile(times, 100 * (share.train + share.validation)))

    def expected(q: int, own: int) -> str:
        if q >= second:
            return "test"
        if q >= first:
            return "validation" if own + WITHIN <= second else "gap"
        return "train" if own + WITHIN <= first else "gap"

    own = {event["event_id"]: event["event_time"] for event in built.events}
    splits = {name: row["split"] for name, row in built.rows.items()}
    assert {name: expected(row["q"], own[name]) for name, row in built.rows.items()} == splits
    counted = {split: list(splits.values()).count(split) for split in set(splits.values())}
    assert built.counts == counted
    assert {"train", "gap", "validation", "test"} >= set(counted) >= {"train", "test"}


def test_a_late_row_of_a_page_settles_by_its_own_time(spark: SparkSession, clicks: UseCase) -> None:
    """With q at 0, 1, ... 5, 5, ... 9 h training ends at 6 h, a label window is half an hour."""
    times = [(f"{hour}", hour * HOUR, hour * HOUR) for hour in range(10)]
    columns = "event_id string, q long, event_time long"
    rows = spark.createDataFrame([*times, ("late", 5 * HOUR, 6 * HOUR)], columns)
    for name in ("q", "event_time"):
        rows = rows.withColumn(name, sf.timestamp_micros(name))
    found = {row["event_id"]: row["split"] for row in with_split(clicks, rows).collect()}
    assert ("train", "gap") == (found["5"], found["late"])


def test_the_real_engine_leaks_nothing(built: Built, clicks: UseCase) -> None:
    query_times = {name: q for name, (q, _, _) in naive_labels(built.events).items()}
    assert set() == leaks(clicks.groups, built.events, query_times, built.rows)


@pytest.mark.parametrize("plant", ["inclusive head", "own event", "future events"])
def test_a_planted_leak_is_caught(
    spark: SparkSession, built: Built, clicks: UseCase, plant: str
) -> None:
    @dataclass(frozen=True)
    class Inclusive(Sliding):
        def bounds(self, q: Time) -> tuple[Time, Time]:
            lo, hi = super().bounds(q)
            return lo, hi + 1

    events = load(spark, built.lake.events)
    rows = label_rows(clicks, events).where(f"q < '{format_time(built.events[60]['event_time'])}'")
    groups = clicks.groups
    if plant == "inclusive head":
        groups = tuple(replace(group, windows=(Inclusive("1h"),)) for group in groups)
    if plant == "own event":
        rows = rows.withColumn("q", sf.timestamp_micros(sf.unix_micros("event_time") + 1))
    if plant == "future events":
        rows = rows.withColumn("q", sf.timestamp_micros(sf.unix_micros("q") + HOUR))
    leaky = replace(clicks, declared=replace(clicks.declared, groups=groups))
    found = collected(with_features(leaky, events, rows))
    query_times = {name: q for name, (q, _, _) in naive_labels(built.events).items()}
    honest = [replace(g, windows=(Sliding("1h"),)) for g in clicks.groups]
    caught = leaks(honest, built.events, query_times, found)
    assert {"user_impressions_1h", "item_impressions_1h"} <= caught


def test_a_log_whose_labels_are_all_open_is_refused_by_name(
    spark: SparkSession, clicks: UseCase, built: Built, tmp_path: Path
) -> None:
    lake = Lake(tmp_path, clicks.name)
    first = load(spark, built.lake.events).orderBy("event_time").limit(3)
    first.write.format("delta").save(str(lake.events))
    with pytest.raises(ValueError, match=r"training_set: no label has matured"):
        build_training_set(spark, clicks, lake)
