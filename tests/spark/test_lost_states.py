"""A state that ought to be in the online store and is not counts as one that differs."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from pyspark.sql import SparkSession

from data_contracts.clock import DAY, MINUTE
from data_contracts.lake import Lake
from data_contracts.tiles import no_rows
from data_contracts.use_case import UseCase
from data_contracts.views import ViewRegistry
from spark_jobs.feature_store import OnlineStates
from spark_jobs.idle_states import keep_quiet
from spark_jobs.lake_lease import lake_lease
from spark_jobs.materialize import materialize
from spark_jobs.online_store import ask
from spark_jobs.stream import ingest_available
from tests.redis_server import RedisServer
from tests.spark.lakes import ARRIVAL, NOON, impression, land_at, to_file


@pytest.fixture
def filled(spark: SparkSession, clicks: UseCase, lake: Lake) -> Lake:
    """A lake of two users and an item."""
    log = [impression(f"e{i}", NOON - i * MINUTE, f"u{i % 2}") for i in range(4)]
    land_at(lake, to_file(lake.root / "0.jsonl", log))
    ingest_available(spark, clicks, lake)
    return lake


def test_a_lost_state_is_counted_named_and_healed(
    spark: SparkSession, clicks: UseCase, filled: Lake
) -> None:
    group = clicks.groups[0]
    online = OnlineStates(clicks, filled)
    before = online.read(group, ["u0", "u1"])
    online.remove(group, ["u1"])
    found = materialize(spark, clicks, filled)
    assert (1, len(group.feature_names)) == (found.lost, found.mismatches)
    assert found.compared > found.mismatches
    healed = online.read(group, ["u0", "u1"])
    assert [state.seq for state in before.values()] == [state.seq for state in healed.values()]
    again = materialize(spark, clicks, filled)
    assert (0, 0) == (again.lost, again.mismatches)


@pytest.mark.full
def test_a_store_that_lost_every_state_but_its_mark_is_not_taken_for_an_empty_one(
    spark: SparkSession, clicks: UseCase, filled: Lake
) -> None:
    online = OnlineStates(clicks, filled)
    user, item = clicks.groups
    online.remove(user, ["u0", "u1"])
    online.remove(item, ["i1"])
    found = materialize(spark, clicks, filled)
    assert 3 == found.lost
    assert 0 < found.compared == found.mismatches


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_state_that_no_event_gives_is_counted_named_and_removed(
    spark: SparkSession, clicks: UseCase, filled: Lake, redis_server: RedisServer, store: str
) -> None:
    """But for one that reads as no event at all, and one whose batch has yet to be appended."""
    lake = replace(filled, redis=redis_server.address) if store == "redis" else filled
    materialize(spark, clicks, lake)
    group, online = clicks.groups[0], OnlineStates(clicks, lake)
    [state] = online.read(group, ["u0"]).values()
    stay = {"idle": replace(state, rows=no_rows(group)), "ahead": replace(state, seq=2)}
    online.write(group, {"ghost": state, "1:ghost": state, **stay})
    found = materialize(spark, clicks, lake)
    assert (3, 0, 2) == (found.keys, found.lost, found.superfluous)
    assert 2 * len(group.feature_names) == found.mismatches < found.compared
    assert {"u0", "u1", *stay} == set(online.keys(group))
    again = materialize(spark, clicks, lake)
    assert (0, 0) == (again.superfluous, again.mismatches)


def test_an_idle_state_that_upkeep_removed_since_the_rebuild_is_not_missed(
    spark: SparkSession, clicks: UseCase, lake: Lake
) -> None:
    """Windows reached its event when it was rebuilt, and no longer do at the latest arrival."""
    groups = tuple(replace(group, ttl="2d") for group in clicks.groups)
    use_case = replace(clicks, declared=replace(clicks.declared, groups=groups))
    early = [impression("early", NOON - 3 * DAY, "idle", "i0")]
    land_at(lake, to_file(lake.root / "0.jsonl", early))
    ingest_available(spark, use_case, lake)
    materialize(spark, use_case, lake)
    late = [impression("late", NOON, "u0")]
    land_at(lake, to_file(lake.root / "1.jsonl", late), at=ARRIVAL + 1)
    ingest_available(spark, use_case, lake)
    assert 2 == keep_quiet(spark, use_case, lake, 2, NOON)
    ingest_available(spark, use_case, lake)
    online, registry = OnlineStates(use_case, lake), ViewRegistry(lake)
    assert {} == online.packed(use_case.groups[0], ["idle"])
    for view in registry.views().values():
        registry.change(view, rebuilt=1)
    ingest_available(spark, use_case, lake)
    views = registry.views().values()
    assert [(None, 0, 0)] * 2 == [(v.rebuilt, v.lost, v.mismatches) for v in views]
    assert all(view.compared > 0 for view in views)


def test_a_store_that_was_emptied_or_is_another_is_filled(
    spark: SparkSession, clicks: UseCase, filled: Lake, own_redis: RedisServer
) -> None:
    for lake in (replace(filled, redis=own_redis.address), filled):
        filled.online_file.unlink(missing_ok=True)
        found = materialize(spark, clicks, lake)
        assert (3, 0, 0, 0) == (found.keys, found.compared, found.mismatches, found.lost)
        again = materialize(spark, clicks, lake)
        assert again.compared > 0 == again.mismatches


def test_a_command_that_names_another_store_moves_no_states_unless_it_fills_that_one(
    spark: SparkSession, clicks: UseCase, filled: Lake, own_redis: RedisServer
) -> None:
    other = replace(filled, redis=own_redis.address)
    with pytest.raises(RuntimeError, match="its states lie in SQLite, and redis://"):
        ingest_available(spark, clicks, other)
    with lake_lease(filled), ThreadPoolExecutor(1) as beside_the_stream:
        moved = beside_the_stream.submit(materialize, spark, clicks, other)
        with pytest.raises(RuntimeError, match="its states lie in SQLite, and redis://"):
            moved.result()
    ingest_available(spark, clicks, filled)
    assert 3 == materialize(spark, clicks, other).keys
    ingest_available(spark, clicks, other)
    with pytest.raises(RuntimeError, match=r"its states lie in redis://.*, and SQLite is named"):
        ingest_available(spark, clicks, filled)


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru"])
def test_a_redis_that_keeps_all_states_is_told_with_its_policy(
    tmp_path: Path, own_redis: RedisServer, policy: str
) -> None:
    """Feast gives no key a time to live, so that volatile policies find none to evict."""
    asked = Lake(tmp_path, "clicks", redis=own_redis.address)
    evicts(own_redis, policy)
    assert f"0 keys, maxmemory-policy {policy}" == ask(asked)
    with closing(redis.Redis.from_url(own_redis.address.url)) as client:
        client.acl_setuser("me", enabled=True, passwords=["+pw"], commands=["+@all", "-info"])
    shy = replace(own_redis.address, username="me", password="pw")
    assert "0 keys, maxmemory-policy not shown to this login" == ask(replace(asked, redis=shy))


def test_a_redis_that_evicts_states_is_refused_by_name(
    tmp_path: Path, own_redis: RedisServer
) -> None:
    evicts(own_redis, "allkeys-lru")
    with pytest.raises(RuntimeError, match=r"maxmemory-policy allkeys-lru: .* set noeviction"):
        ask(Lake(tmp_path, "clicks", redis=own_redis.address))


def test_no_writer_starts_on_a_redis_that_evicts_states(
    spark: SparkSession, clicks: UseCase, lake: Lake, own_redis: RedisServer
) -> None:
    evicts(own_redis, "allkeys-lru")
    with pytest.raises(RuntimeError, match=r"maxmemory-policy allkeys-lru: .* set noeviction"):
        ingest_available(spark, clicks, replace(lake, redis=own_redis.address))


def evicts(server: RedisServer, policy: str) -> None:
    with closing(redis.Redis.from_url(server.address.url)) as client:
        client.config_set("maxmemory-policy", policy)
