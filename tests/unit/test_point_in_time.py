from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts import point_in_time
from data_contracts.aggregates import Max, Min
from data_contracts.clock import MINUTE
from data_contracts.features import FeatureGroup
from data_contracts.oracle import oracle_features
from data_contracts.windows import Sliding
from tests.engines import point_in_time_features
from tests.strategies import FULL, KEYS, events, groups, times

EXTREMES = FeatureGroup(
    "user",
    "user_id",
    {"least": Min("price", scale=100), "most": Max("price", scale=100)},
    (Sliding("10m"), Sliding("24h")),
    defaults={"least": -7.0},
)


@given(st.data())
def test_every_query_equals_the_oracle(data: st.DataObject) -> None:
    group, log = data.draw(groups()), data.draw(events(max_size=60))
    queries = data.draw(st.lists(st.tuples(st.sampled_from(KEYS), times()), max_size=10))
    expected = [oracle_features(group, log, key, q) for key, q in queries]
    assert expected == point_in_time_features(group, log, queries)


@given(events(max_size=80))
def test_extremes_over_ranges_of_every_length_equal_the_oracle(log: list[Any]) -> None:
    queries = [(e["user_id"], e["event_time"] + off) for e in log for off in (0, 1, 5 * MINUTE)]
    expected = [oracle_features(EXTREMES, log, key, q) for key, q in queries]
    assert expected == point_in_time_features(EXTREMES, log, queries)


CLICK = {"event_type": "click", "user_id": "ann"}


def test_extremes_over_a_thousand_events_equal_the_oracle() -> None:
    log = [
        {**CLICK, "event_id": f"e{i}", "event_time": i, "price": float(i * 7919 % 1009)}
        for i in range(1000)
    ]
    queries = [("ann", q) for q in (0, 1, 2, 3, 511, 512, 513, 999, 1000, 10 * MINUTE + 7)]
    expected = [oracle_features(EXTREMES, log, key, q) for key, q in queries]
    assert expected == point_in_time_features(EXTREMES, log, queries)


@given(events(max_size=12))
def test_no_row_sees_its_own_event_or_a_later_one(log: list[Any]) -> None:
    queries = [(e["user_id"], e["event_time"]) for e in log]
    whole = point_in_time_features(FULL, log, queries)
    for (key, q), features in zip(queries, whole, strict=True):
        past = [e for e in log if e["event_time"] < q]
        assert [features] == point_in_time_features(FULL, past, [(key, q)])


def test_a_planted_leak_is_a_different_number() -> None:
    own = {**CLICK, "event_id": "own", "event_time": 100, "price": 9.0}
    honest = point_in_time_features(EXTREMES, [own], [("ann", 100)])
    leaking = point_in_time_features(EXTREMES, [own], [("ann", 101)])
    assert [[-7.0, 0.0, -7.0, 0.0]] == honest
    assert [[9.0, 9.0, 9.0, 9.0]] == leaking


def test_a_key_without_events_and_a_log_without_rows_give_the_defaults() -> None:
    queries = [("nobody", 0), ("ann", -1)]
    expected = [FULL.default_values().tolist()] * 2
    assert expected == point_in_time_features(FULL, [], queries)


def test_no_queries_give_no_rows() -> None:
    assert [] == point_in_time_features(FULL, [], [])


@given(st.data())
def test_windows_laid_out_in_small_blocks_are_the_same(data: st.DataObject) -> None:
    group, log = data.draw(groups()), data.draw(events())
    queries = data.draw(st.lists(st.tuples(st.sampled_from(KEYS), times()), max_size=8))
    whole = point_in_time_features(group, log, queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(point_in_time, "BLOCK", 3)
        assert whole == point_in_time_features(group, log, queries)


def test_positions_are_found_where_keys_and_times_are_too_wide_for_one_number() -> None:
    keys = np.array([0, 0, 1, 2**21], np.int64)
    moments = np.array([-(2**45), 2**45, 0, 7], np.int64)
    own = point_in_time.Timeline(keys, moments)
    asked = np.array([0, 0, 1, 1, 2**21, 2**21, 2**21 + 1])
    at = np.array([2**45, 2**45 + 1, 0, 1, 7, 8, 0])
    assert [1, 2, 2, 3, 3, 4, 4] == own.position(asked, at).tolist()
