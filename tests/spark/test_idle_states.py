"""Idle states leave the store, also while its stream runs; a state that is reached again stays."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from pyspark.sql import SparkSession

from data_contracts.clock import DAY, MINUTE, SECOND, format_time
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.states import read
from data_contracts.use_case import UseCase
from data_contracts.views import View, ViewRegistry
from data_contracts.windows import Lifetime, Sliding
from spark_jobs import idle_states
from spark_jobs.feature_store import OnlineStates
from spark_jobs.idle_states import expiring, keep_quiet, quiet_file, removing
from spark_jobs.maintenance import maintain
from spark_jobs.stream import ingest_available, running_stream
from tests.spark.lakes import ARRIVAL, NOON, copy_of, impression, land_at, to_file, typed


@pytest.fixture
def use_case(clicks: UseCase) -> UseCase:
    """Its item group forgets what nothing happened to for two days, the reach of its windows."""
    user, item = clicks.groups
    groups = (user, replace(item, ttl="2d"))
    return replace(clicks, declared=replace(clicks.declared, groups=groups))


def landed(lake: Lake, number: int, *events: dict[str, object]) -> list[dict[str, object]]:
    land_at(lake, to_file(lake.root / f"{number}.jsonl", events), at=ARRIVAL + number)
    return [*events]


def ahead_of_its_arrival(use_case: UseCase) -> tuple[dict[str, object], int]:
    """An event that was stamped ahead of its arrival (µs), and beyond a midnight."""
    midnight = NOON + DAY // 2
    ahead = use_case.contract.max_future_skew // 2
    arrived = midnight - ahead
    event = impression("ahead", midnight + ahead - SECOND, arrived_at=format_time(arrived))
    return event, arrived


def held(use_case: UseCase, lake: Lake) -> set[str]:
    keys = [f"i{i}" for i in range(9)]
    return set(OnlineStates(use_case, lake).packed(use_case.groups[1], keys))


def test_the_stream_removes_the_idle_states_that_an_upkeep_beside_it_found(
    spark: SparkSession, use_case: UseCase, lake: Lake
) -> None:
    log = landed(lake, 0, *(impression(f"old{i}", NOON - 5 * DAY, item=f"i{i}") for i in range(3)))
    ingest_available(spark, use_case, lake)
    with running_stream(spark, use_case, lake) as stream, ThreadPoolExecutor(1) as beside:
        log += landed(lake, 1, impression("new", NOON, item="i3"))
        stream.catch_up()
        done = beside.submit(maintain, spark, use_case, lake, "7d").result()
        assert (0, 3, {}) == (done.states_removed, done.states_left, done.skipped)
        assert {"i0", "i1", "i2", "i3"} == held(use_case, lake)
        log += landed(lake, 2, impression("again", NOON + MINUTE, item="i1"))
        stream.catch_up()
        while stream.batches.tend():
            pass
    assert {"i1", "i3"} == held(use_case, lake)
    group, keys, q = use_case.groups[1], ["i0", "i1", "i3"], NOON + 2 * MINUTE
    states = OnlineStates(use_case, lake).read(group, keys)
    expected = [oracle_features(group, typed(use_case, log), key, q) for key in keys]
    assert expected == read(group, [states.get(key) for key in keys], q).tolist()
    assert 0 == keep_quiet(spark, use_case, lake, 3, NOON + MINUTE), "none is looked at twice"
    landed(lake, 3, impression("stale", NOON - 6 * DAY, item="i2"))
    ingest_available(spark, use_case, lake)
    assert {"i1", "i2", "i3"} == held(use_case, lake)
    assert 1 == keep_quiet(spark, use_case, lake, 4, NOON + MINUTE)


def test_states_of_a_view_whose_windows_reach_beyond_the_ttl_of_today_leave_in_the_end(
    spark: SparkSession, use_case: UseCase, lake: Lake
) -> None:
    """A model still reads the older, wider view; it was looked at once, and never again."""
    item = use_case.groups[1]
    registry, wide = ViewRegistry(lake), replace(item, windows=(Sliding("10d"),), ttl="20d")
    lasting = replace(item, windows=(Sliding("1h"), Lifetime()), ttl="")
    landed(lake, 0, impression("e", NOON))
    for group in (wide, lasting):
        registry.put(View(group, "ready"))
    ingest_available(spark, use_case, lake)
    after = {view.group.digest: ttl for view, ttl in expiring(use_case, lake)}
    assert (11 * DAY, None) == (after[wide.digest], after.get(lasting.digest))
    left: list[set[str]] = []
    for days in (3, 30):
        keep_quiet(spark, use_case, lake, 1, NOON + days * DAY)
        ingest_available(spark, use_case, lake)
        left.append(set(OnlineStates(use_case, lake).packed(wide, ["i1"])))
    assert [{"i1"}, set()] == left
    assert {"i1"} == set(OnlineStates(use_case, lake).packed(lasting, ["i1"]))


def ttl_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(idle_states, "expiring", lambda use_case, lake: [])


def ttl_alone(patch: pytest.MonkeyPatch) -> None:
    """A quiet key leaves the store, whatever a window still reaches of it."""
    patch.setattr(idle_states, "idle_keys", lambda group, states, as_of: [*states])


def test_a_fault_in_the_ttl_shows_in_what_the_store_holds(
    spark: SparkSession, use_case: UseCase, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, arrived = ahead_of_its_arrival(use_case)
    landed(lake, 0, impression("old", NOON - 5 * DAY, item="i0"), event)
    ingest_available(spark, use_case, lake)
    left: list[set[str]] = []
    for n, plant in enumerate((None, ttl_ignored, ttl_alone)):
        own = copy_of(lake, lake.root.with_name(f"{n}"))
        with monkeypatch.context() as patch:
            if plant:
                plant(patch)
            keep_quiet(spark, use_case, own, 1, arrived + 2 * DAY)
            online = OnlineStates(use_case, own)
            for view in ViewRegistry(own).views().values():
                if quiet_file(own, view.name).exists():
                    list(removing(own, online, view))
        left.append(held(use_case, own))
    assert [{"i1"}, {"i0", "i1"}, set()] == left


@pytest.mark.full
def test_a_quiet_key_that_a_window_still_reaches_is_looked_at_again(
    spark: SparkSession, use_case: UseCase, lake: Lake
) -> None:
    event, arrived = ahead_of_its_arrival(use_case)
    landed(lake, 0, event)
    ingest_available(spark, use_case, lake)
    found: list[tuple[int, set[str]]] = []
    for days in (2, 3):
        quiet = keep_quiet(spark, use_case, lake, 1, arrived + days * DAY)
        ingest_available(spark, use_case, lake)
        found.append((quiet, held(use_case, lake)))
    assert [(1, {"i1"}), (1, set())] == found
