"""One suite for both stores behind Feast: the same write log, the same reads demanded of each."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.accumulators import Events
from data_contracts.clock import DAY, HOUR, SECOND
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.states import State, advance, decode, encode, read
from data_contracts.tiles import raw_rows
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of
from serving.features import NO_STATE, FeatureReader
from serving.online import StateReader
from spark_jobs.feature_store import OnlineStates
from spark_jobs.online_store import CONFIG, ask, check_place, move
from tests.parity.log import FADING, WIDE
from tests.redis_server import RedisServer
from tests.spark.lakes import NOON

ODD = (
    "", "ann", "Ann", "ANN", "ß", "ss", "SS", "i", "I", "ı", "é", "e\u0301", "Å", "\u212b",
    "1", "01", "1.0", "1e0", " 1", "1 ", "+1", "-0", "true", "True", "null", "None", "nan",
    "a,b", "a=b", "a:b", "'", '"', "\\", "{}", "*", "?", "[a]", "\n", "\t", "\u200b", "🦊", "键",
    "ann\u00a0", "%s", "$HOME", "-- ", "k" * 100_000,
)  # fmt: skip
"""Keys that differ, and that something on the way might take for each other."""


Demand = Callable[[FeatureGroup, Mapping[str, State]], None]


@pytest.fixture
def demand(use_case: UseCase, lake: Lake) -> Demand:
    """Demands that both readers see exactly these states of a group, and none of `nobody`."""
    opened: list[FeatureReader] = []

    def demanded(group: FeatureGroup, expected: Mapping[str, State]) -> None:
        if not opened:
            opened.append(FeatureReader(use_case, lake, digests_of(use_case.groups)))
        keys = [*expected, "nobody"]
        packed = {key: encode(group, state) for key, state in expected.items()}
        assert packed == OnlineStates(use_case, lake).packed(group, keys)
        place = use_case.groups.index(group)
        widths = [len(g.feature_names) for g in use_case.groups]
        start = sum(widths[:place])
        view = [each.name for each in opened[0].reading.groups].index(group.name)
        for q in (max(s.as_of for s in expected.values()), NOON + HOUR, NOON + 3 * DAY):
            rows = [dict.fromkeys(use_case.entities, key) for key in keys]
            served = opened[0].read_now(rows, q)
            mine = served.values[:, start : start + widths[place]]
            wanted = read(group, [expected.get(key) for key in keys], served.q)
            assert wanted.tolist() == mine.tolist()
            assert [*(s.seq for s in expected.values()), NO_STATE] == served.seqs[:, view].tolist()
            assert 0 == opened[0].failures

    return demanded


def state_of(group: FeatureGroup, seed: int, seq: int, as_of: int = NOON, n: int = 6) -> State:
    """The state of a key that saw `n` events, drawn by `seed`, up to an hour around the as-of."""
    rng = np.random.default_rng(seed)
    events = Events(
        time=as_of + rng.integers(-HOUR, HOUR, n),
        tie=rng.integers(0, 1 << 53, n),
        text={"event_type": rng.choice(np.array(["impression", "click"], object), n)},
        number={
            name: np.where(rng.random(n) < 0.1, np.nan, np.round(rng.random(n), 3))
            for name in ("affinity", "position", "item_id")
        },
    )
    events.number["item_id"] = rng.integers(0, 1 << 53, n).astype(float)
    events.number["position"] = rng.integers(1, 4, n).astype(float)
    rows = raw_rows(group, np.zeros(n, np.int64), events)
    return advance(group, {}, ["key"], rows, seq, as_of)["key"]


def test_the_last_write_wins_whichever_as_of_it_carries(
    use_case: UseCase, lake: Lake, demand: Demand
) -> None:
    writer = OnlineStates(use_case, lake)
    for seed, as_of in enumerate((NOON, NOON, NOON + DAY, NOON - DAY, NOON - DAY, NOON)):
        state = {"ann": state_of(WIDE, seed, seed + 1, as_of)}
        writer.write(WIDE, state)
        demand(WIDE, state)


def test_keys_are_told_apart_to_the_last_code_point(
    use_case: UseCase, lake: Lake, demand: Demand
) -> None:
    states = {key: state_of(WIDE, seed, seed + 1) for seed, key in enumerate(ODD)}
    OnlineStates(use_case, lake).write(WIDE, states)
    demand(WIDE, states)


def test_a_request_without_a_key_reads_defaults(use_case: UseCase, lake: Lake) -> None:
    OnlineStates(use_case, lake).write(WIDE, {"ann": state_of(WIDE, 1, 1)})
    reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
    served = reader.read_now([{"user_id": None, "item_id": ""}], NOON)
    defaults = np.concatenate([group.default_values() for group in use_case.groups])
    assert (False, [defaults.tolist()]) == (served.store_failed, served.values.tolist())


def test_a_state_is_read_again_only_after_the_store_has_changed(
    use_case: UseCase, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    reads = StateReader._read  # pyright: ignore[reportPrivateUsage]

    def noted(self: StateReader, group: FeatureGroup, view: str, keys: Sequence[str]) -> Any:
        read.extend(keys)
        return reads(self, group, view, keys)

    monkeypatch.setattr(StateReader, "_read", noted)
    writer, reader = OnlineStates(use_case, lake), StateReader(lake, use_case.contract.fields)
    states = {key: encode(WIDE, state_of(WIDE, 1, seq)) for seq, key in enumerate(("ann", "bo"), 1)}
    told = lake.redis is None
    for key, state in states.items():
        writer.write(WIDE, {key: decode(WIDE, state)})
        for keys in (["ann"], ["ann", "bo"], ["bo", "ann", "nobody"]):
            found = reader.packed(WIDE, keys)
            so_far = {k: v for k, v in states.items() if k <= key}
            assert [so_far.get(k, b"") for k in keys] == [found[k] for k in keys]
        expected = ["ann", "bo", "nobody"] if told else ["ann", "ann", "bo", "bo", "ann", "nobody"]
        assert expected == read
        read.clear()


@pytest.mark.parametrize("lake", ["sqlite"], indirect=True)
def test_another_file_in_the_store_s_place_is_read_from_then_on(
    use_case: UseCase, lake: Lake, tmp_path: Path
) -> None:
    writer, reader = OnlineStates(use_case, lake), StateReader(lake, use_case.contract.fields)
    states = [state_of(WIDE, 1, seq) for seq in (1, 2)]
    writer.write(WIDE, {"ann": states[0]})
    assert encode(WIDE, states[0]) == reader.packed(WIDE, ["ann"])["ann"]
    kept = tmp_path / "kept.db"
    with closing(sqlite3.connect(lake.online_file)) as file:
        file.execute(f"VACUUM INTO '{kept}'")
    for end in ("", "-wal", "-shm"):
        lake.online_file.with_name(lake.online_file.name + end).unlink(missing_ok=True)
    kept.rename(lake.online_file)
    OnlineStates(use_case, lake).write(WIDE, {"ann": states[1]})
    for _ in range(2):
        assert encode(WIDE, states[1]) == reader.packed(WIDE, ["ann"])["ann"]


def test_nobody_who_reads_waits_for_who_writes(use_case: UseCase, lake: Lake) -> None:
    writer, reader = OnlineStates(use_case, lake), StateReader(lake, use_case.contract.fields)
    state = state_of(WIDE, 1, 1)
    writer.write(WIDE, {"ann": state})
    with ExitStack() as written:
        if lake.redis is None:
            file = written.enter_context(closing(sqlite3.connect(lake.online_file)))
            file.execute("BEGIN EXCLUSIVE")
        assert encode(WIDE, state) == reader.packed(WIDE, ["ann"])["ann"]


def test_requests_that_are_read_together_read_what_each_reads_alone(
    use_case: UseCase, lake: Lake
) -> None:
    ahead = NOON + DAY
    states = {f"k{i}": state_of(WIDE, i, i + 1, ahead if i == 3 else NOON) for i in range(12)}
    writer = OnlineStates(use_case, lake)
    writer.write(WIDE, states)
    writer.write(FADING, {f"k{i}": state_of(FADING, i, i + 1) for i in range(0, 12, 2)})
    reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
    rng = np.random.default_rng(5)
    asks = [
        ([dict.fromkeys(use_case.entities, f"k{k}") for k in rng.integers(0, 15, rows)], int(q))
        for rows, q in zip(rng.integers(1, 9, 40), NOON + rng.integers(-HOUR, DAY, 40), strict=True)
    ]
    asks.append(([dict.fromkeys(use_case.entities)], NOON))
    together, alone = reader.read_all(asks), [reader.read_now(*asked) for asked in asks]
    told = [(s.q, s.values.tolist(), s.seqs.tolist(), s.as_ofs) for s in together]
    assert told == [(s.q, s.values.tolist(), s.seqs.tolist(), s.as_ofs) for s in alone]
    assert {True, False} == {served.q == ahead for served in together}
    assert {True, False} == {served.q == q for served, (_, q) in zip(together, asks, strict=True)}


def test_a_state_that_cannot_be_read_costs_only_the_requests_that_need_it(
    use_case: UseCase, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    OnlineStates(use_case, lake).write(WIDE, {k: state_of(WIDE, 1, 1) for k in ("ann", "torn")})
    reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
    stored = reader._source.packed

    def packed(group: FeatureGroup, keys: Sequence[str]) -> Mapping[str, bytes]:
        found = stored(group, keys)
        return {key: found[key][:-1] if key == "torn" else found[key] for key in keys}

    monkeypatch.setattr(reader._source, "packed", packed)
    asks = [([dict.fromkeys(use_case.entities, key)], NOON) for key in ("ann", "torn", "nobody")]
    served = reader.read_all(asks)
    assert [False, True, False] == [each.store_failed for each in served]
    assert [1, NO_STATE, NO_STATE] == [int(each.seqs.max()) for each in served]
    assert 1 == reader.failures


def test_many_keys_and_a_big_state_are_read_as_written(
    use_case: UseCase, lake: Lake, demand: Demand
) -> None:
    states = {f"u{i}": state_of(FADING, i % 50, i + 1) for i in range(1500)}
    states["big"] = state_of(FADING, 1, 7, n=40_000)
    assert len(encode(FADING, states["big"])) > 1 << 19
    OnlineStates(use_case, lake).write(FADING, states)
    demand(FADING, states)


def test_a_batch_of_more_keys_than_a_statement_takes_variables_is_read(
    use_case: UseCase, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def as_built(*given: Any, **named: Any) -> sqlite3.Connection:
        """As SQLite is built where nobody raised its limit."""
        found = connect(*given, **named)
        found.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
        return found

    monkeypatch.setattr(sqlite3, "connect", as_built)
    writer, state = OnlineStates(use_case, lake), state_of(FADING, 1, 1)
    writer.write(FADING, dict.fromkeys(("k0", "k39999"), state))
    found = writer.packed(FADING, [f"k{i}" for i in range(40_000)])
    assert dict.fromkeys(("k0", "k39999"), encode(FADING, state)) == found


def test_groups_and_lakes_of_one_store_do_not_mix(
    use_case: UseCase, lake: Lake, demand: Demand, tmp_path: Path
) -> None:
    other = Lake(tmp_path / "other", lake.use_case, redis=lake.redis)
    user, item = {"ann": state_of(WIDE, 1, 1)}, {"ann": state_of(FADING, 2, 2)}
    OnlineStates(use_case, lake).write(WIDE, user)
    OnlineStates(use_case, lake).write(FADING, item)
    OnlineStates(use_case, other).write(WIDE, {"ann": state_of(WIDE, 3, 3)})
    demand(WIDE, user)
    demand(FADING, item)


def test_a_writer_that_starts_again_with_the_wall_clock_set_back_still_rewrites(
    use_case: UseCase, lake: Lake, demand: Demand
) -> None:
    # The first writer lived a day ahead of this machine's clock.
    OnlineStates(use_case, lake)
    clock = lake.stream / "write_clock.json"
    clock.parent.mkdir(parents=True)
    ahead = NOON + 100 * 365 * DAY
    clock.write_text(json.dumps({"last": ahead}))
    for seed in range(3):
        states = {key: state_of(WIDE, seed, seed + 1) for key in ("ann", "ben")}
        OnlineStates(use_case, lake).write(WIDE, states)
        demand(WIDE, states)
    assert ahead + 3 == json.loads(clock.read_text())["last"]


def test_a_batch_taken_again_changes_nothing(use_case: UseCase, lake: Lake, demand: Demand) -> None:
    writer = OnlineStates(use_case, lake)
    empty = raw_rows(FADING, np.zeros(0, np.int64), _no_events())
    for seq in (1, 2):
        known = writer.read(FADING, ["ann"])
        writer.write(FADING, advance(FADING, known, ["ann"], empty, seq, NOON + seq * SECOND))
    written = writer.read(FADING, ["ann"])
    for seq in (2, 1):
        again = OnlineStates(use_case, lake)
        known = again.read(FADING, ["ann"])
        again.write(FADING, advance(FADING, known, ["ann"], empty, seq, NOON + DAY))
    demand(FADING, written)
    assert 2 == written["ann"].seq


def test_any_write_log_leaves_the_last_state_of_each_key(
    use_case: UseCase, lake: Lake, demand: Demand
) -> None:
    rng = np.random.default_rng(5)
    keys = [f"key {i}" for i in range(40)]
    held: dict[str, dict[str, State]] = {group.name: {} for group in use_case.groups}
    writer = OnlineStates(use_case, lake)
    for seq in range(1, 41):
        group = use_case.groups[int(rng.integers(2))]
        asked = rng.choice(keys, int(rng.integers(1, 12)), replace=False).tolist()
        as_of = NOON + int(rng.integers(-3, 4)) * HOUR
        states = {key: state_of(group, int(rng.integers(1 << 30)), seq, as_of) for key in asked}
        if seq % 7 == 0:
            writer = OnlineStates(use_case, lake)
        writer.write(group, states)
        held[group.name] |= states
    for group in use_case.groups:
        demand(group, held[group.name])


def test_a_store_that_lost_what_was_written_is_noticed(use_case: UseCase, lake: Lake) -> None:
    writer = OnlineStates(use_case, lake)
    for seq in (1, 2, 5):
        writer.reach(seq)
    assert 5 == OnlineStates(use_case, lake).require(5)
    behind = r"holds micro-batches up to 5, but 6 were written: .*run `headrace materialize`$"
    with pytest.raises(RuntimeError, match=behind):
        OnlineStates(use_case, lake).require(6)
    writer.reach(3)
    assert 5 == writer.require(5), "an old batch taken again"


def test_who_names_another_store_than_holds_the_states_is_refused_and_redirects_nobody(
    use_case: UseCase, lake: Lake, demand: Demand, redis_server: RedisServer
) -> None:
    writer, states = OnlineStates(use_case, lake), {"ann": state_of(WIDE, 1, 1)}
    writer.write(WIDE, states)
    config = (lake.online / CONFIG).read_text()
    address = redis_server.address
    other = replace(lake, redis=None if lake.redis else replace(address, db=address.db + 1))
    held, named = (str(each.redis or "SQLite") for each in (lake, other))
    said = rf"its states lie in {held}, and {named} is named: .*HEADRACE_REDIS.*materialize`$"
    for ask_ in (lambda: OnlineStates(use_case, other), lambda: ask(other)):
        with pytest.raises(RuntimeError, match=said):
            ask_()
    assert config == (lake.online / CONFIG).read_text()
    demand(WIDE, states)
    move(other)
    with pytest.raises(RuntimeError, match=rf"its states lie in {named}, and {held} is named"):
        OnlineStates(use_case, lake)
    assert {} == OnlineStates(use_case, other).read(WIDE, ["ann"])


def test_a_login_may_change_and_a_root_may_be_moved(
    lake: Lake, use_case: UseCase, tmp_path: Path
) -> None:
    OnlineStates(use_case, lake)
    moved = replace(lake, root=lake.root.rename(tmp_path / "moved"))
    if lake.redis:
        moved = replace(moved, redis=replace(lake.redis, username="me", password="a,$b"))
    check_place(moved)


def _no_events() -> Events:
    nothing = np.empty(0)
    return Events(
        time=np.empty(0, np.int64),
        tie=np.empty(0, np.int64),
        text={"event_type": np.empty(0, object)},
        number={"affinity": nothing},
    )
