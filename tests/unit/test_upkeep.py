"""What upkeep rests on: a key out of every window's reach, and old tiles folded into one, lose
nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts import tiles
from data_contracts.aggregates import Count
from data_contracts.clock import HOUR
from data_contracts.feature_rules import reach
from data_contracts.features import FeatureGroup
from data_contracts.oracle import oracle_features
from data_contracts.states import State, advance, idle_keys
from data_contracts.tiles import concat, where
from data_contracts.windows import Sliding, Tumbling
from tests.engines import as_batch, as_events, tables, tile_features
from tests.strategies import FULL, KEYS, batches, events, groups, times


@given(st.data())
def test_a_key_whose_ttl_has_passed_is_served_the_defaults(data: st.DataObject) -> None:
    group, log = data.draw(groups()), data.draw(events())
    reaches = [reach(window) for window in group.windows]
    ttl = max(far for far in reaches if far is not None) if any(reaches) else 0
    last = max((event["event_time"] for event in log), default=0)
    q = last + ttl + data.draw(st.integers(0, ttl))
    falling = [
        reaches[i // (len(group.feature_names) // len(reaches))] is not None
        for i in range(len(group.feature_names))
    ]
    served = oracle_features(group, log, "ann", q)
    defaults = group.default_values().tolist()
    assert [v for v, f in zip(defaults, falling, strict=True) if f] == [
        v for v, f in zip(served, falling, strict=True) if f
    ]


@given(st.data())
def test_states_removed_when_idle_are_missed_by_no_later_event(data: st.DataObject) -> None:
    group, log = data.draw(groups()), data.draw(events())
    cut = data.draw(batches(log))
    as_ofs = sorted(data.draw(st.lists(times(), min_size=len(cut), max_size=len(cut))))
    found: dict[str, State] = {}
    for seq, (batch, as_of) in enumerate(zip(cut, as_ofs, strict=True)):
        found |= advance(group, found, *as_batch(group, batch), seq, as_of)
        for key in idle_keys(group, found, as_of):
            del found[key]
    q = max(as_ofs[-1], data.draw(times()))
    expected = [oracle_features(group, log, key, q) for key in KEYS]
    assert expected == tile_features(group, found, KEYS, q)


@pytest.mark.parametrize(("as_of", "idle"), [(0, []), (2 * HOUR - 1, []), (2 * HOUR, ["ann"])])
def test_a_key_is_idle_once_its_event_has_left_every_window_and_no_sooner(
    as_of: int, idle: list[str]
) -> None:
    windows = (Sliding("10m"), Tumbling("1h"))
    group = FeatureGroup("user", "user_id", aggregates={"shown": Count()}, windows=windows)
    event = {"event_id": "e", "event_type": "click", "event_time": 0, "user_id": "ann"}
    found = advance(group, {}, *as_batch(group, [event]), 1, 0)
    assert idle == idle_keys(group, found, as_of)


@given(st.data())
def test_tiles_folded_and_expired_early_merge_to_the_same_tables(data: st.DataObject) -> None:
    group, log = data.draw(groups() | st.just(FULL)), data.draw(events())
    cut, first, last = sorted(data.draw(times()) for _ in range(3))
    rows = tiles.raw_rows(group, keys_of(log), as_events(group, log))
    old = [table[:, tiles.START] < cut for table in rows.tables]
    young = where(rows, [~mask for mask in old])
    base = tiles.expire(group, tiles.fold(group, where(rows, old), every(cut)), every(first))
    whole = tiles.expire(group, tiles.fold(group, rows, every(last)), every(last))
    late = tiles.fold(group, concat([base, young]), every(last))
    assert tables(group, whole) == tables(group, tiles.expire(group, late, every(last)))


def keys_of(log: list[dict[str, object]]) -> np.ndarray:
    return np.array([KEYS.index(str(event["user_id"])) for event in log], np.int64)


def every(moment: int) -> np.ndarray:
    return np.full(len(KEYS), moment, np.int64)
