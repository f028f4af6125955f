"""Views that come and go: whatever dies or is emptied amid it, the stream goes on or says why."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.aggregates import Count
from data_contracts.clock import DAY, HOUR, MINUTE, format_time
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.online import view_name
from data_contracts.use_case import UseCase
from data_contracts.views import View, ViewRegistry
from data_contracts.windows import Sliding
from spark_jobs import rebuilt_states, view_keeper
from spark_jobs.feature_store import OnlineStates
from spark_jobs.idle_states import expiring, keep_quiet
from spark_jobs.materialize import materialize, rebuild
from spark_jobs.rebuilt_states import keep_rebuilt, rebuilt_file
from spark_jobs.schemas import RAW
from spark_jobs.stream import MicroBatches, ingest_available
from spark_jobs.tables import load
from spark_jobs.tiles import backfill_tiles
from spark_jobs.view_keeper import retire, tend_until_done
from tests.spark.lakes import ARRIVAL, NOON, impression, land_at, to_file, to_line
from tests.spark.test_lease import said, started

EXTRA = FeatureGroup("user", "user_id", {"all": Count()}, (Sliding("1h"),))


@pytest.fixture
def filled(spark: SparkSession, clicks: UseCase, lake: Lake) -> Lake:
    """A lake of three batches."""
    for i in range(3):
        log = [impression(f"{i}-{j}", NOON + j * MINUTE, f"u{j % 2}") for j in range(4)]
        land_at(lake, to_file(lake.root / f"{i}.jsonl", log), at=ARRIVAL + i)
        ingest_available(spark, clicks, lake)
    return lake


@pytest.mark.parametrize(
    "died", ["before it was served", pytest.param("amid its end", marks=pytest.mark.full)]
)
def test_a_view_that_is_gone_from_the_store_already_is_retired(
    spark: SparkSession, clicks: UseCase, filled: Lake, died: str
) -> None:
    registry = ViewRegistry(filled)
    registry.put(View(EXTRA, "building"))
    if died == "amid its end":
        online = OnlineStates(clicks, filled)
        online.drop(EXTRA)
        registry.put(View(EXTRA, "retiring"))
        ingest_available(spark, clicks, filled)
    else:
        retire(spark, clicks, filled, [view_name(EXTRA)])
    assert "retired" == registry.views()[view_name(EXTRA)].status


def test_a_retired_view_does_not_hide_that_the_store_was_emptied(
    spark: SparkSession, clicks: UseCase, filled: Lake
) -> None:
    ViewRegistry(filled).put(View(EXTRA, "ready"))
    filled.online_file.unlink()
    retire(spark, clicks, filled, [view_name(EXTRA)])
    with pytest.raises(RuntimeError, match="up to 0, but 3 were written: it was emptied"):
        ingest_available(spark, clicks, filled)


def test_rebuilt_states_are_caught_up_from_the_seq_in_their_file(
    spark: SparkSession, clicks: UseCase, filled: Lake
) -> None:
    """Another materialize replaced the file and died before it said so."""
    registry, group = ViewRegistry(filled), clicks.groups[0]
    as_of = load(spark, filled.events).agg(sf.unix_micros(sf.max("arrived_at"))).first()
    assert as_of is not None
    states = rebuild(spark, clicks, filled, group, 2, as_of[0])
    keep_rebuilt(filled, group, states, view_name(group), 2)
    registry.put(View(group, "ready", rebuilt=1))
    ingest_available(spark, clicks, filled)
    loaded = registry.views()[view_name(group)]
    assert (None, 2, 0) == (loaded.rebuilt, loaded.keys, loaded.mismatches)
    assert loaded.compared > 0


def test_a_load_ends_though_its_keys_and_new_ones_get_events_after_every_part_of_it(
    spark: SparkSession, clicks: UseCase, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilt_states, "KEYS_AT_ONCE", 1)
    batches, registry = MicroBatches(spark, clicks, lake), ViewRegistry(lake)
    user = clicks.groups[0]

    def take(number: int) -> None:
        came = [impression(f"{key}-{number}", NOON, key) for key in ("u0", "u1", f"new{number}")]
        lines = [("http-1.jsonl", 3 * number + i, to_line(event)) for i, event in enumerate(came)]
        batches.process(spark.createDataFrame(lines, RAW), number)

    take(0)
    keep_rebuilt(lake, user, {}, view_name(user), 0)
    registry.put(View(user, "ready", rebuilt=0))
    for number in range(1, 8):
        take(number)
    loaded = registry.views()[view_name(user)]
    assert (None, 4, 0) == (loaded.rebuilt, loaded.keys, loaded.mismatches)
    found = materialize(spark, clicks, lake)
    assert (2 + 8 + 1, 0, 0) == (found.keys, found.mismatches, found.lost)


@pytest.mark.parametrize("stands", [False, True])
def test_who_waits_for_a_load_waits_for_as_long_as_it_goes_on(
    spark: SparkSession, clicks: UseCase, lake: Lake, monkeypatch: pytest.MonkeyPatch, stands: bool
) -> None:
    monkeypatch.setattr(view_keeper, "POLL_S", 0.02)
    name = view_name(clicks.groups[0])
    keep_rebuilt(lake, clicks.groups[0], {}, name, 0)
    ViewRegistry(lake).put(View(clicks.groups[0], "ready", rebuilt=1))
    left = 20

    def waiting() -> bool:
        nonlocal left
        left -= 1
        if not stands:
            os.utime(rebuilt_file(lake, name), ns=(left, left))
        return left > 0

    with started(lake.stream) as writer:
        assert "held" == said(writer)
        if stands:
            with pytest.raises(RuntimeError, match="it did not tend to the views of the store"):
                tend_until_done(spark, clicks, lake, waiting, patience_s=0.1)
        else:
            tend_until_done(spark, clicks, lake, waiting, patience_s=0.1)
        writer.communicate()


def test_an_event_in_tiles_that_were_built_since_is_counted_once(
    spark: SparkSession, clicks: UseCase, lake: Lake
) -> None:
    """A backfill of a closed day comes between a rebuild's look at the events and at the tiles."""
    day = NOON - 13 * HOUR
    for i, event in enumerate([
        impression("closed", day),
        impression("today", NOON),
        impression("late", day + MINUTE, arrived_at=format_time(NOON + MINUTE)),
    ]):  # fmt: skip
        land_at(lake, to_file(lake.root / f"{i}.jsonl", [event]), at=ARRIVAL + i)
        ingest_available(spark, clicks, lake)
    backfill_tiles(spark, clicks, lake, clicks.groups)
    assert {3} == {tile["seq"] for tile in load(spark, lake.tiles).collect()}
    registry, group = ViewRegistry(lake), clicks.groups[0]
    keep_rebuilt(lake, group, rebuild(spark, clicks, lake, group, 2, NOON), view_name(group), 2)
    registry.put(View(group, "ready", rebuilt=1))
    ingest_available(spark, clicks, lake)
    loaded = registry.views()[view_name(group)]
    assert (None, 1, 0) == (loaded.rebuilt, loaded.keys, loaded.mismatches)
    assert loaded.compared > 0


@pytest.mark.full
def test_a_ttl_that_was_declared_later_counts_and_a_group_without_a_view_is_left(
    spark: SparkSession, clicks: UseCase, filled: Lake, tmp_path: Path
) -> None:
    fading = replace(clicks.groups[1], ttl="9d")
    unbuilt = replace(EXTRA, name="new", ttl="9d")
    groups = (clicks.groups[0], fading, unbuilt)
    use_case = replace(clicks, declared=replace(clicks.declared, groups=groups))
    assert [("item", 9 * DAY)] == [(v.group.name, ttl) for v, ttl in expiring(use_case, filled)]
    assert 0 == keep_quiet(spark, use_case, filled, 3, NOON + DAY)
    assert 1 == keep_quiet(spark, use_case, filled, 3, NOON + 20 * DAY)
    assert OnlineStates(clicks, filled).packed(fading, ["i1"])
    ingest_available(spark, clicks, filled)
    assert {} == OnlineStates(clicks, filled).packed(fading, ["i1"])
