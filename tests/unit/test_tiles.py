from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts import states, tiles
from data_contracts.aggregates import Count, Distinct, LastK, Mean
from data_contracts.clock import DAY, HOUR, MINUTE, SECOND
from data_contracts.features import FeatureGroup
from data_contracts.oracle import oracle_features
from data_contracts.states import State, encode
from data_contracts.tiles import START, Rows, concat
from data_contracts.windows import Sliding, Tumbling
from tests.engines import (
    as_batch,
    as_events,
    point_in_time_features,
    stream,
    tables,
    tile_features,
)
from tests.strategies import FULL, KEYS, batches, events, groups, times

COUNT = FeatureGroup(
    "user",
    "user_id",
    {"n": Count(), "price": Mean("price", scale=100)},
    (Sliding("10m"), Sliding("1h"), Tumbling("1d")),
    defaults={"price": -1.0},
)


def view(t: int, price: float | None = None, key: str = "ann") -> dict[str, Any]:
    return {
        "event_id": f"{key}{t}", "event_type": "impression", "event_time": t, "user_id": key,
        "price": price,
    }  # fmt: skip


def raw(group: FeatureGroup, log: list[Any]) -> Rows:
    keys = np.array([KEYS.index(e["user_id"]) for e in log], np.int64)
    return tiles.raw_rows(group, keys, as_events(group, log))


def every_key(as_of: int) -> np.ndarray:
    return np.full(len(KEYS), as_of, np.int64)


@given(st.data())
def test_any_cut_and_permutation_equals_the_oracle_and_the_point_in_time_kernel(
    data: st.DataObject,
) -> None:
    group, log = data.draw(groups()), data.draw(events())
    cut = data.draw(batches(log))
    as_ofs = sorted(data.draw(st.lists(times(), min_size=len(cut), max_size=len(cut))))
    q = max(as_ofs[-1], data.draw(times()))
    expected = [oracle_features(group, log, key, q) for key in KEYS]
    assert expected == tile_features(group, stream(group, cut, as_ofs), KEYS, q)
    assert expected == point_in_time_features(group, log, [(key, q) for key in KEYS])


@given(st.data())
def test_an_as_of_that_goes_back_between_batches_changes_no_feature(data: st.DataObject) -> None:
    log = data.draw(events())
    cut = data.draw(batches(log))
    as_ofs = data.draw(st.lists(times(), min_size=len(cut), max_size=len(cut)))
    q = max(*as_ofs, data.draw(times()))
    expected = [oracle_features(FULL, log, key, q) for key in KEYS]
    assert expected == tile_features(FULL, stream(FULL, cut, as_ofs), KEYS, q)


@given(st.data())
def test_reading_later_and_later_needs_no_new_event(data: st.DataObject) -> None:
    log = data.draw(events())
    as_of = data.draw(times())
    found = stream(FULL, [log], [as_of])
    for later in sorted(data.draw(st.lists(st.integers(0, 30 * DAY), max_size=4))):
        expected = [oracle_features(FULL, log, key, as_of + later) for key in KEYS]
        assert expected == tile_features(FULL, found, KEYS, as_of + later)


@given(st.data())
def test_merging_rows_is_associative_commutative_and_idempotent_on_merged_rows(
    data: st.DataObject,
) -> None:
    group, log = data.draw(groups()), data.draw(events())
    log = data.draw(st.permutations(log))
    at = data.draw(st.integers(0, len(log)))
    late = every_key(13 * DAY)
    whole = tiles.fold(group, raw(group, log), late)
    parts = [tiles.fold(group, raw(group, part), late) for part in (log[:at], log[at:])]
    assert tables(group, whole) == tables(group, tiles.merge(group, concat(parts)))
    assert tables(group, whole) == tables(group, tiles.merge(group, concat(parts[::-1])))
    assert tables(group, whole) == tables(group, tiles.merge(group, whole))


@given(st.data())
def test_folding_twice_is_folding_once_at_the_later_time(data: st.DataObject) -> None:
    group = data.draw(groups())
    rows = raw(group, data.draw(events()))
    early, late = sorted((data.draw(times()), data.draw(times())))
    twice = tiles.fold(group, tiles.fold(group, rows, every_key(early)), every_key(late))
    assert tables(group, tiles.fold(group, rows, every_key(late))) == tables(group, twice)


@given(st.data())
def test_expiry_drops_nothing_that_a_later_read_could_see(data: st.DataObject) -> None:
    as_of = data.draw(times())
    group = data.draw(groups())
    rows = tiles.fold(group, raw(group, data.draw(events())), every_key(as_of))
    q = as_of + data.draw(st.integers(0, 3 * DAY))
    kept = tiles.expire(group, rows, every_key(as_of))
    moments = every_key(q)
    before, after = (tiles.window_states(group, r, moments) for r in (rows, kept))
    assert group.finalize(before, moments).tolist() == group.finalize(after, moments).tolist()


@given(st.data())
def test_a_replayed_batch_changes_nothing(data: st.DataObject) -> None:
    log = data.draw(events())
    cut = data.draw(batches(log))
    found = stream(FULL, cut, [0] * len(cut))
    for seq, batch in enumerate(cut):
        assert {} == states.advance(FULL, found, *as_batch(FULL, batch), seq, DAY)


@given(groups(), events(), times(), st.integers(0, 2**62))
def test_a_state_survives_encoding_and_decoding(
    group: FeatureGroup, log: list[Any], as_of: int, seq: int
) -> None:
    for state in states.advance(group, {}, *as_batch(group, log), seq, as_of).values():
        back = states.decode(group, states.encode(group, state))
        assert (state.seq, state.as_of) == (back.seq, back.as_of)
        assert tables(group, states.of_key(state.rows, 0)) == tables(group, back.rows)


@given(groups(), events(max_size=20), times())
def test_a_decoded_state_goes_on_like_the_one_that_was_encoded(
    group: FeatureGroup, log: list[Any], q: int
) -> None:
    first = stream(group, [log], [q])
    packed = {key: states.decode(group, states.encode(group, s)) for key, s in first.items()}
    more = as_batch(group, [view(q - MINUTE, 3.5)])
    on, again = (states.advance(group, found, *more, 1, q) for found in (first, packed))
    assert states.encode(group, on["ann"]) == states.encode(group, again["ann"])


@given(groups(), events(), times())
def test_states_of_many_keys_are_unpacked_as_each_alone(
    group: FeatureGroup, log: list[Any], q: int
) -> None:
    found = stream(group, [log], [q - MINUTE])
    packed = {key: states.encode(group, state) for key, state in found.items()}
    for key, state in states.decode_all(group, packed).items():
        alone = states.decode(group, packed[key])
        assert (alone.seq, alone.as_of) == (state.seq, state.as_of)
        assert tables(group, alone.rows) == tables(group, state.rows)
    asked = [key for key in KEYS if key in packed]
    held = np.array([KEYS.index(key) for key in asked], np.int64)
    rows = states.unpack(group, [packed[key] for key in asked], held).rows
    values = states.finalized(group, rows, every_key(q)).tolist()
    assert tile_features(group, found, KEYS, q) == values


def test_state_bytes_cut_anywhere_are_refused() -> None:
    state = stream(COUNT, [[view(0, 1.0), view(HOUR)]], [MINUTE])["ann"]
    packed = states.encode(COUNT, state)
    for length in range(len(packed)):
        with pytest.raises(ValueError, match="state of group user"):
            states.decode(COUNT, packed[:length])
    with pytest.raises(ValueError, match="state of group user"):
        states.decode(COUNT, packed + b"\x00")


def test_a_state_of_another_definition_is_refused_with_the_mend() -> None:
    other = FeatureGroup("user", "user_id", {"n": Count()}, COUNT.windows)
    packed = states.encode(other, State(0, 0, tiles.no_rows(other)))
    with pytest.raises(ValueError, match="headrace materialize"):
        states.decode(COUNT, packed)


def test_a_pending_event_is_seen_only_once_q_has_passed_it() -> None:
    found = stream(COUNT, [[view(90 * SECOND, 5.0)]], [60 * SECOND])
    assert [[0.0, -1.0]] == [row[:2] for row in tile_features(COUNT, found, ["ann"], 90 * SECOND)]
    seen = tile_features(COUNT, found, ["ann"], 90 * SECOND + 1)
    assert [[1.0, 5.0]] == [row[:2] for row in seen]


def test_windows_fall_with_time_and_not_with_events() -> None:
    found = stream(COUNT, [[view(0, 5.0)]], [1])
    lived = {1: 1.0, 10 * MINUTE + MINUTE - 1: 1.0, 11 * MINUTE: 0.0}
    assert list(lived.values()) == [tile_features(COUNT, found, ["ann"], q)[0][0] for q in lived]
    assert [0.0, -1.0] * 3 == tile_features(COUNT, found, ["ann"], 3 * DAY)[0]


def test_a_late_event_enters_the_tiles_of_its_time() -> None:
    log = [view(0, 1.0), view(50 * MINUTE, 2.0), view(20 * MINUTE, 6.0)]
    found = stream(COUNT, [log[:2], log[2:]], [51 * MINUTE, 52 * MINUTE])
    expected = oracle_features(COUNT, log, "ann", 52 * MINUTE)
    assert [expected] == tile_features(COUNT, found, ["ann"], 52 * MINUTE)
    assert 3.0 == expected[2]


def test_an_event_too_late_for_every_window_leaves_no_tile() -> None:
    found = stream(COUNT, [[view(-5 * DAY)]], [0])
    assert 0 == len(found["ann"].rows.tiles)


def test_a_reader_before_the_as_of_must_read_at_the_as_of() -> None:
    log = [view(30 * SECOND), view(50 * SECOND)]
    found = stream(COUNT, [log], [MINUTE])
    q = 40 * SECOND
    assert 2.0 == tile_features(COUNT, found, ["ann"], q)[0][0]
    at = max(q, found["ann"].as_of)
    assert [oracle_features(COUNT, log, "ann", at)] == tile_features(COUNT, found, ["ann"], at)


def test_only_the_keys_of_a_batch_change() -> None:
    found = stream(COUNT, [[view(0)], [view(1, key="ben")]], [2, 3])
    assert {"ann": 0, "ben": 1} == {key: state.seq for key, state in found.items()}


def test_an_empty_batch_changes_nothing() -> None:
    assert {} == states.advance(COUNT, {}, [], tiles.no_rows(COUNT), 0, 0)


def test_reading_no_keys_gives_no_rows() -> None:
    assert (0, 6) == states.read(COUNT, [], 0).shape


def test_split_gives_every_key_its_rows_also_when_it_has_none() -> None:
    rows = tiles.merge(COUNT, raw(COUNT, [view(0, key="käthe"), view(1)]))
    assert [1, 0, 1] == [len(part.tiles) for part in states.split(rows, 3)]
    assert [1, 0] == rows.tiles[:, START].tolist()


@given(st.data())
def test_no_log_makes_a_state_larger_than_its_group_says(data: Any) -> None:
    group = data.draw(groups())
    log = data.draw(events(max_size=80))
    as_of = max((event["event_time"] for event in log), default=0) + 1
    found = stream(group, [log[::2], log[1::2]], [as_of, as_of])
    header = 37 + 4 * len(group.entries)
    for state in found.values():
        assert len(encode(group, state)) - header <= group.state_bytes


def test_a_state_that_is_as_full_as_it_can_be_takes_what_its_group_says() -> None:
    """Every tile that a window reaches holds as many values as the cap, and one list of the
    latest."""
    window = Sliding("100s")
    aggregates = {"shops": Distinct("shop", cap=3), "last": LastK("shop", k=4), "n": Count()}
    group = FeatureGroup("user", "user_id", aggregates, (window,))
    log = [
        {"event_id": f"e{tile}-{i}", "event_type": "click", "user_id": "ann",
         "event_time": tile * window.hop + i, "shop": f"shop {i}"}
        for tile in range(window.tiles - 1) for i in range(5)
    ]  # fmt: skip
    as_of = log[-1]["event_time"] + 1
    (state,) = stream(group, [log], [as_of]).values()
    tiles = window.tiles - 1
    held = tiles * (16 + 8 * 1) + tiles * 3 * (4 + 16) + 4 * (4 + 24)
    assert held == len(encode(group, state)) - (37 + 4 * 2)
    a_tile_more = 16 + 8 * 1 + 3 * (4 + 16)
    assert held + a_tile_more == group.state_bytes
