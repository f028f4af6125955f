from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts import tiles
from data_contracts.aggregates import Count, Mean
from data_contracts.clock import DAY, HOUR, MINUTE, SECOND
from data_contracts.features import FeatureGroup
from data_contracts.tiles import START, State
from data_contracts.windows import Sliding, Tumbling
from tests.engines import as_batch, as_columns, point_in_time_features, stream, tile_features
from tests.oracle import oracle_features
from tests.strategies import FULL, KEYS, batches, events, groups, times

COUNT = FeatureGroup(
    "user",
    "user_id",
    {"n": Count(), "price": Mean("price", scale=100)},
    (Sliding("10m"), Sliding("1h"), Tumbling("1d")),
    defaults={"price": -1.0},
)


def view(t: int, price: float | None = None, key: str = "ann") -> dict[str, Any]:
    return {"event_type": "impression", "event_time": t, "user_id": key, "price": price}


def raw(group: FeatureGroup, log: list[Any]) -> np.ndarray:
    keys = np.array([KEYS.index(e["user_id"]) for e in log], np.int64)
    moments = np.array([e["event_time"] for e in log], np.int64)
    return tiles.raw_rows(keys, moments, group.lift(as_columns(group, log)))


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
    states = stream(FULL, [log], [as_of])
    for later in sorted(data.draw(st.lists(st.integers(0, 30 * DAY), max_size=4))):
        expected = [oracle_features(FULL, log, key, as_of + later) for key in KEYS]
        assert expected == tile_features(FULL, states, KEYS, as_of + later)


@given(st.data())
def test_merging_rows_is_associative_commutative_and_idempotent_on_merged_rows(
    data: st.DataObject,
) -> None:
    rows = raw(FULL, data.draw(events()))
    order = data.draw(st.permutations(range(len(rows))))
    at = data.draw(st.integers(0, len(rows)))
    whole = tiles.merge(FULL, rows)
    parts = [tiles.merge(FULL, rows[order][:at]), tiles.merge(FULL, rows[order][at:])]
    assert whole.tolist() == tiles.merge(FULL, np.concatenate(parts)).tolist()
    assert whole.tolist() == tiles.merge(FULL, np.concatenate(parts[::-1])).tolist()
    assert whole.tolist() == tiles.merge(FULL, whole).tolist()


@given(st.data())
def test_folding_twice_is_folding_once_at_the_later_time(data: st.DataObject) -> None:
    rows = raw(FULL, data.draw(events()))
    early, late = sorted((data.draw(times()), data.draw(times())))
    twice = tiles.fold(FULL, tiles.fold(FULL, rows, early), late)
    assert tiles.fold(FULL, rows, late).tolist() == twice.tolist()


@given(st.data())
def test_expiry_drops_nothing_that_a_later_read_could_see(data: st.DataObject) -> None:
    as_of = data.draw(times())
    rows = tiles.fold(FULL, raw(FULL, data.draw(events())), as_of)
    q = as_of + data.draw(st.integers(0, 3 * DAY))
    kept = tiles.expire(FULL, rows, as_of)
    before = tiles.window_states(FULL, rows, len(KEYS), q)
    after = tiles.window_states(FULL, kept, len(KEYS), q)
    assert [s.tolist() for s in before.values()] == [s.tolist() for s in after.values()]


@given(st.data())
def test_a_replayed_batch_changes_nothing(data: st.DataObject) -> None:
    log = data.draw(events())
    cut = data.draw(batches(log))
    states = stream(FULL, cut, [0] * len(cut))
    for seq, batch in enumerate(cut):
        assert {} == tiles.advance(FULL, states, as_batch(FULL, batch), seq, DAY)


@given(events(), times(), st.integers(0, 2**62))
def test_a_state_survives_encoding_and_decoding(log: list[Any], as_of: int, seq: int) -> None:
    for state in tiles.advance(FULL, {}, as_batch(FULL, log), seq, as_of).values():
        back = tiles.decode(FULL, tiles.encode(FULL, state))
        assert (state.seq, state.as_of) == (back.seq, back.as_of)
        assert state.rows.tolist() == back.rows.tolist()


@given(events(max_size=20), times())
def test_a_decoded_state_goes_on_like_the_one_that_was_encoded(log: list[Any], q: int) -> None:
    first = stream(FULL, [log], [q])
    packed = {key: tiles.decode(FULL, tiles.encode(FULL, s)) for key, s in first.items()}
    more = as_batch(FULL, [view(q - MINUTE, 3.5)])
    on, again = (tiles.advance(FULL, states, more, 1, q) for states in (first, packed))
    assert tiles.encode(FULL, on["ann"]) == tiles.encode(FULL, again["ann"])


def test_state_bytes_cut_anywhere_are_refused() -> None:
    state = stream(COUNT, [[view(0, 1.0), view(HOUR)]], [MINUTE])["ann"]
    packed = tiles.encode(COUNT, state)
    for length in range(len(packed)):
        with pytest.raises(ValueError, match="state of group user"):
            tiles.decode(COUNT, packed[:length])
    with pytest.raises(ValueError, match="state of group user"):
        tiles.decode(COUNT, packed + b"\x00")


def test_a_state_of_another_definition_is_refused_with_the_mend() -> None:
    other = FeatureGroup("user", "user_id", {"n": Count()}, COUNT.windows)
    packed = tiles.encode(other, State(0, 0, np.empty((0, 3), np.int64)))
    with pytest.raises(ValueError, match="headrace materialize"):
        tiles.decode(COUNT, packed)


def test_a_pending_event_is_seen_only_once_q_has_passed_it() -> None:
    states = stream(COUNT, [[view(90 * SECOND, 5.0)]], [60 * SECOND])
    assert [[0.0, -1.0]] == [row[:2] for row in tile_features(COUNT, states, ["ann"], 90 * SECOND)]
    seen = tile_features(COUNT, states, ["ann"], 90 * SECOND + 1)
    assert [[1.0, 5.0]] == [row[:2] for row in seen]


def test_windows_fall_with_time_and_not_with_events() -> None:
    states = stream(COUNT, [[view(0, 5.0)]], [1])
    lived = {1: 1.0, 10 * MINUTE + MINUTE - 1: 1.0, 11 * MINUTE: 0.0}
    assert list(lived.values()) == [tile_features(COUNT, states, ["ann"], q)[0][0] for q in lived]
    assert [0.0, -1.0] * 3 == tile_features(COUNT, states, ["ann"], 3 * DAY)[0]


def test_a_late_event_enters_the_tiles_of_its_time() -> None:
    log = [view(0, 1.0), view(50 * MINUTE, 2.0), view(20 * MINUTE, 6.0)]
    states = stream(COUNT, [log[:2], log[2:]], [51 * MINUTE, 52 * MINUTE])
    expected = oracle_features(COUNT, log, "ann", 52 * MINUTE)
    assert [expected] == tile_features(COUNT, states, ["ann"], 52 * MINUTE)
    assert 3.0 == expected[2]


def test_an_event_too_late_for_every_window_leaves_no_tile() -> None:
    states = stream(COUNT, [[view(-5 * DAY)]], [0])
    assert 0 == len(states["ann"].rows)


def test_a_reader_before_the_as_of_must_read_at_the_as_of() -> None:
    log = [view(30 * SECOND), view(50 * SECOND)]
    states = stream(COUNT, [log], [MINUTE])
    q = 40 * SECOND
    assert 2.0 == tile_features(COUNT, states, ["ann"], q)[0][0]
    at = max(q, states["ann"].as_of)
    assert [oracle_features(COUNT, log, "ann", at)] == tile_features(COUNT, states, ["ann"], at)


def test_only_the_keys_of_a_batch_change() -> None:
    states = stream(COUNT, [[view(0)], [view(1, key="ben")]], [2, 3])
    assert {"ann": 0, "ben": 1} == {key: state.seq for key, state in states.items()}


def test_an_empty_batch_changes_nothing() -> None:
    assert {} == tiles.advance(COUNT, {}, {}, 0, 0)


def test_reading_no_keys_gives_no_rows() -> None:
    assert (0, 6) == tiles.read(COUNT, [], 0).shape


def test_split_gives_every_key_its_rows_also_when_it_has_none() -> None:
    rows = tiles.merge(COUNT, raw(COUNT, [view(0, key="käthe"), view(1)]))
    assert [1, 0, 1] == [len(part) for part in tiles.split(rows, 3)]
    assert [1, 0] == rows[:, START].tolist()
