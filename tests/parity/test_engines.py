"""One log, four ways to a feature: stream, rebuild, training-set kernel, oracle. All `==`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree
from typing import Any, cast

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.accumulators import Accumulator
from data_contracts.clock import DAY, HOUR, day_of
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.states import State, of_key, read
from data_contracts.tiles import LEVEL, START, STATE, Rows
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.views import ViewRegistry, digests_of
from data_contracts.windows import RAW as RAW_LEVEL
from serving.features import FeatureReader
from spark_jobs.feature_store import OnlineStates
from spark_jobs.materialize import materialize, rebuild
from spark_jobs.point_in_time import NO_LIMIT, at_query_times
from spark_jobs.schemas import RAW
from spark_jobs.stream import MicroBatches
from spark_jobs.tables import load
from spark_jobs.tiles import backfill_tiles
from tests.engines import tables
from tests.parity.log import FADING, ITEMS, PARTS, USERS, WIDE, arrival, parts, query_times
from tests.spark.lakes import to_line, typed

KEYS = {"user_id": [*USERS, "nobody"], "item_id": [*ITEMS, "nothing"]}
END = arrival(PARTS - 1)


@dataclass(frozen=True)
class Streamed:
    """A lake whose stream has taken the whole log, and every event of it."""

    use_case: UseCase
    lake: Lake
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    clicks = load_use_case("clicks")
    return replace(clicks, declared=replace(clicks.declared, groups=(WIDE, FADING)))


@pytest.fixture(scope="module")
def streamed(
    spark: SparkSession, use_case: UseCase, tmp_path_factory: pytest.TempPathFactory
) -> Streamed:
    """The log in its own order, one part a batch, each read online before the next one comes.

    Tiles were built after the second batch, so that later events lie above their seq.
    """
    lake = Lake(tmp_path_factory.mktemp("streamed"), use_case.name)
    batches = MicroBatches(spark, use_case, lake)
    events: list[dict[str, Any]] = []
    for number, part in enumerate(parts()):
        again = events[::9]
        events += part
        feed(spark, batches, number, [*part, *again, *part[:5]])
        known = typed(use_case, events)
        ahead = [e["event_time"] for e in known if e["event_time"] >= arrival(number)]
        assert ahead, "some events must wait raw"
        for q in query_times((), ahead, arrival(number), each=0):
            assert oracle(use_case, known, q) == online(use_case, lake, q)
        if number == 1:
            backfill_tiles(
                spark, use_case, lake, use_case.groups, day_of(0), day_of(arrival(1) + DAY)
            )
    return Streamed(use_case, lake, typed(use_case, events))


def feed(
    spark: SparkSession, batches: MicroBatches, number: int, events: Sequence[Mapping[str, Any]]
) -> None:
    lines = [(f"http-{number}.jsonl", i, to_line(event)) for i, event in enumerate(events, 1)]
    batches.process(spark.createDataFrame(lines, RAW), number)


def oracle(use_case: UseCase, events: Sequence[Mapping[str, Any]], q: int) -> list[list[float]]:
    """Per group, the features of all its keys in a row."""
    return [
        [v for key in KEYS[group.entity] for v in oracle_features(group, events, key, q)]
        for group in use_case.groups
    ]


def online(use_case: UseCase, lake: Lake, q: int) -> list[list[float]]:
    """As `oracle`, as the server reads it."""
    reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
    users, items = KEYS["user_id"], KEYS["item_id"]
    rows = [{"user_id": users[i % len(users)], "item_id": key} for i, key in enumerate(items)]
    served = reader.read_now(rows, q)
    assert (0, q) == (reader.failures, served.q)
    width = len(use_case.groups[0].feature_names)
    first = served.values[: len(users), :width]
    return [first.ravel().tolist(), served.values[:, width:].ravel().tolist()]


def moments(streamed: Streamed, each: int) -> list[int]:
    times = [event["event_time"] for event in streamed.events]
    ahead = [t for t in times if t >= END]
    windows = {window for group in streamed.use_case.groups for window in group.windows}
    return query_times(sorted(windows, key=lambda w: w.label), [*times, *ahead], END, each)


def newest(spark: SparkSession, lake: Lake) -> int:
    row = load(spark, lake.events).agg(sf.max("seq")).first()
    assert row is not None
    return int(row[0])


def rebuilt(spark: SparkSession, streamed: Streamed) -> list[dict[str, State]]:
    seq = newest(spark, streamed.lake)
    return [
        rebuild(spark, streamed.use_case, streamed.lake, group, seq, END)
        for group in streamed.use_case.groups
    ]


def kernel(
    spark: SparkSession, streamed: Streamed, group: FeatureGroup, moments: Sequence[int]
) -> dict[tuple[str, int], list[float]]:
    keys = KEYS[group.entity]
    queries = [(f"{key}@{q}", key, q, int(NO_LIMIT)) for key in keys for q in moments]
    asked = spark.createDataFrame(queries, "id string, key string, us long, seq long")
    asked = asked.withColumn("q", sf.timestamp_micros("us")).drop("us")
    events = load(spark, streamed.lake.events)
    rows = at_query_times(group, events, asked).toArrow().to_pylist()
    found = {}
    for row in rows:
        key, q = row["id"].split("@")
        found[key, int(q)] = [row[name] for name in group.feature_names]
    return found


def test_stream_rebuild_kernel_and_oracle_agree_at_every_edge(
    spark: SparkSession, streamed: Streamed
) -> None:
    use_case, asked = streamed.use_case, moments(streamed, each=4)
    assert len(asked) > 100
    states = rebuilt(spark, streamed)
    kernels = [kernel(spark, streamed, group, asked) for group in use_case.groups]
    for q in asked:
        expected = oracle(use_case, streamed.events, q)
        assert expected == online(use_case, streamed.lake, q), f"online at {q}"
        for group, features, state, rows in zip(
            use_case.groups, expected, states, kernels, strict=True
        ):
            keys = KEYS[group.entity]
            tiles = read(group, [state.get(key) for key in keys], q)
            assert features == tiles.ravel().tolist(), f"rebuild of {group.name} at {q}"
            straight = [value for key in keys for value in rows[key, q]]
            assert features == straight, f"kernel of {group.name} at {q}"


def test_rebuilt_states_are_the_streamed_states(spark: SparkSession, streamed: Streamed) -> None:
    use_case, lake = streamed.use_case, streamed.lake
    for group in ViewRegistry(lake).live():
        states = rebuild(spark, use_case, lake, group, newest(spark, lake), END)
        held = OnlineStates(use_case, lake).read(group, states)
        last = {key: state for key, state in held.items() if state.as_of == END}
        assert last
        for key, state in last.items():
            assert tables(group, state.rows) == tables(group, of_key(states[key].rows, 0))


def test_another_order_and_other_cuts_read_the_same(
    spark: SparkSession, streamed: Streamed, tmp_path: Path
) -> None:
    use_case, lake = streamed.use_case, Lake(tmp_path, streamed.use_case.name)
    log = [event for part in parts() for event in part]
    order = np.random.default_rng(5).permutation(len(log))
    shuffled = [log[i] for i in order]
    batches = MicroBatches(spark, use_case, lake)
    feed(spark, batches, 0, shuffled[:31])
    feed(spark, batches, 1, [*shuffled[31:], *shuffled[:40]])
    for q in moments(streamed, each=1):
        assert online(use_case, streamed.lake, q) == online(use_case, lake, q)


def test_windows_fall_as_time_passes_with_no_new_event(streamed: Streamed) -> None:
    use_case, lake = streamed.use_case, streamed.lake
    name = WIDE.feature_names.index("user_events_1h")
    counts = [
        sum(online(use_case, lake, END + late)[0][name :: len(WIDE.feature_names)])
        for late in (1, HOUR // 2, 2 * HOUR)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[2] == 0
    for group, served in zip(use_case.groups, online(use_case, lake, END + 40 * DAY), strict=True):
        falling = [not name.endswith("_lifetime") for name in group.feature_names]
        keys = len(KEYS[group.entity])
        values = np.array(served).reshape(keys, -1)[:, falling]
        assert [group.default_values()[falling].tolist()] * keys == values.tolist()


def test_materialize_agrees_with_the_stream_and_changes_no_feature(
    spark: SparkSession, streamed: Streamed, tmp_path: Path
) -> None:
    lake = copy_of(streamed, tmp_path)
    found = materialize(spark, streamed.use_case, lake)
    known = {"user_id": USERS, "item_id": ITEMS}
    states = sum(len(known[view.key_fields[0]]) for view in ViewRegistry(lake).live())
    assert (states, END, 0) == (found.keys, found.as_of, found.mismatches)
    assert found.compared > found.keys * len(streamed.use_case.groups[1].feature_names)
    for q in moments(streamed, each=1):
        assert online(streamed.use_case, streamed.lake, q) == online(streamed.use_case, lake, q)


def test_materialize_heals_a_store_that_was_deleted(
    spark: SparkSession, streamed: Streamed, tmp_path: Path
) -> None:
    lake = copy_of(streamed, tmp_path)
    for file in lake.online.iterdir():
        file.unlink()
    found = materialize(spark, streamed.use_case, lake)
    assert (0, 0) == (found.compared, found.mismatches)
    for q in moments(streamed, each=1):
        assert online(streamed.use_case, streamed.lake, q) == online(streamed.use_case, lake, q)


def test_materialize_finds_and_heals_a_state_that_lost_an_event(
    spark: SparkSession, streamed: Streamed, tmp_path: Path
) -> None:
    lake, group = copy_of(streamed, tmp_path), streamed.use_case.groups[1]
    store = OnlineStates(streamed.use_case, lake)
    state = store.read(group, ["i1"])["i1"]
    (impressions,) = group.aggregates["impressions"].parts
    count = STATE + [*group.accumulators].index(cast(Accumulator, impressions))
    tiles = state.rows.tiles.copy()
    folded = [r for r in range(len(tiles)) if tiles[r, LEVEL] > RAW_LEVEL and tiles[r, count]]
    tiles[max(folded, key=lambda r: tiles[r, START]), count] -= 1
    store.write(group, {"i1": State(state.seq, state.as_of, Rows(tiles, state.rows.entries))})
    assert materialize(spark, streamed.use_case, lake).mismatches > 0
    assert 0 == materialize(spark, streamed.use_case, lake).mismatches
    q = END + 1
    assert online(streamed.use_case, streamed.lake, q) == online(streamed.use_case, lake, q)


@pytest.mark.full
def test_materialize_finds_and_heals_a_state_that_cannot_be_decoded(
    spark: SparkSession, streamed: Streamed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, group = copy_of(streamed, tmp_path), streamed.use_case.groups[1]
    store = OnlineStates(streamed.use_case, lake)
    with monkeypatch.context() as patch:
        patch.setattr("spark_jobs.feature_store.encode", lambda *_: b"cut short")
        store.write(group, store.read(group, ["i1"]))
    with pytest.raises(ValueError, match="state of group item: 9 bytes hold no header"):
        store.read(group, ["i1"])
    found = materialize(spark, streamed.use_case, lake)
    assert len(group.feature_names) == found.mismatches
    assert 0 == materialize(spark, streamed.use_case, lake).mismatches


def copy_of(streamed: Streamed, root: Path) -> Lake:
    copytree(streamed.lake.root, root, dirs_exist_ok=True)
    return Lake(root, streamed.lake.use_case)
