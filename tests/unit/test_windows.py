import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.aggregates import Count
from data_contracts.clock import DAY, HOUR, MINUTE, SECOND, duration, parse_time
from data_contracts.features import FeatureGroup
from data_contracts.oracle import oracle_bounds, oracle_floor, oracle_hop
from data_contracts.tiles import LEVEL
from data_contracts.windows import HOPS, Lifetime, Session, Sliding, Tumbling, Window, floor, hop_of
from tests.engines import stream
from tests.strategies import WINDOWS, times

HOP_TABLE = [
    ("100s", 10 * SECOND),
    ("599s", 10 * SECOND),
    ("10m", MINUTE),
    ("49m", MINUTE),
    ("50m", 5 * MINUTE),
    ("1h", 5 * MINUTE),
    ("299m", 5 * MINUTE),
    ("5h", 30 * MINUTE),
    ("24h", 30 * MINUTE),
    ("29h", 30 * MINUTE),
    ("30h", 3 * HOUR),
    ("9d", 3 * HOUR),
    ("10d", DAY),
    ("400d", DAY),
]

FLOOR_TABLE = [
    (0, 10, 0),
    (9, 10, 0),
    (10, 10, 10),
    (11, 10, 10),
    (-1, 10, -10),
    (-10, 10, -10),
    (-11, 10, -20),
    (-1, DAY, -DAY),
    (DAY - 1, DAY, 0),
    (DAY, DAY, DAY),
]

LEAP_DAY = parse_time("2020-02-29T00:00:00Z")
MOMENTS = times() | times().map(lambda t: LEAP_DAY + t)


@pytest.mark.parametrize(("width", "hop"), HOP_TABLE)
def test_the_hop_of_a_sliding_window_is_the_one_in_the_table(width: str, hop: int) -> None:
    assert hop == Sliding(width).hop


@pytest.mark.parametrize(("t", "width", "expected"), FLOOR_TABLE)
def test_floor_is_euclidean_for_numbers_and_arrays(t: int, width: int, expected: int) -> None:
    assert expected == floor(t, width)
    assert [expected] == floor(np.array([t]), width).tolist()


@pytest.mark.parametrize("gap", ["10s", "149s", "150s", "299s", "5m", "7m", "90m"])
def test_the_segments_of_a_session_take_no_more_than_is_counted(gap: str) -> None:
    window = Session(gap, within="100m")
    group = FeatureGroup("user", "user_id", {"n": Count()}, (window,))
    step, hop, as_of = duration(gap) + 1, window.hop, duration("100m") + window.hop - 1
    times = [t for cell in range(0, as_of, hop) for t in range(cell, min(cell + hop, as_of), step)]
    log = [
        {"event_id": f"{t}", "event_type": "click", "event_time": t, "user_id": "u"} for t in times
    ]
    tiles = stream(group, [log], [as_of])["u"].rows.tiles
    assert len(times) == len(tiles) <= window.tiles
    assert tiles[:, LEVEL:].nbytes <= group.state_bytes


def test_every_hop_divides_the_next() -> None:
    assert [0] * 5 == [wide % narrow for narrow, wide in itertools.pairwise(HOPS)]


@pytest.mark.parametrize("window", [Sliding("99s"), Tumbling("99s"), Sliding("1m")])
def test_a_window_under_100_s_is_refused(window: Sliding | Tumbling) -> None:
    with pytest.raises(ValueError, match="at least 100 s"):
        _ = window.hop


def test_a_tumbling_window_of_broken_tens_of_seconds_is_refused() -> None:
    with pytest.raises(ValueError, match="whole 10 s, got 105s"):
        _ = Tumbling("105s").hop


@given(st.integers(100 * SECOND, 500 * DAY))
def test_hops_equal_the_oracle_at_any_width(width: int) -> None:
    assert oracle_hop(width) == hop_of(width)


@given(MOMENTS, st.integers(1, 40 * DAY))
def test_floor_equals_the_oracle_at_any_time(t: int, width: int) -> None:
    assert oracle_floor(t, width) == floor(t, width)


@given(st.sampled_from(WINDOWS), MOMENTS)
def test_bounds_equal_the_oracle_for_numbers_and_arrays(window: Window, q: int) -> None:
    expected = oracle_bounds(window, q)
    assert expected == window.bounds(q)
    lo, hi = window.bounds(np.array([q]))
    assert expected == (lo.item(), hi.item())


@given(st.sampled_from(WINDOWS), MOMENTS, st.integers(0, DAY))
def test_bounds_never_go_back_as_time_goes_on(window: Window, q: int, later: int) -> None:
    before, after = window.bounds(q), window.bounds(q + later)
    assert before[0] <= after[0]
    assert before[1] <= after[1]


@given(st.sampled_from(WINDOWS), MOMENTS)
def test_both_bounds_that_tiles_must_meet_lie_on_the_hop(window: Window, q: int) -> None:
    lo, hi = window.bounds(q)
    assert isinstance(window, Lifetime) or 0 == lo % window.hop
    if isinstance(window, Tumbling):
        assert 0 == hi % window.hop


def test_the_head_of_a_sliding_window_is_exact_and_exclusive() -> None:
    q = parse_time("2019-11-24T10:00:00.000001Z")
    assert q == Sliding("10m").bounds(q)[1]


def test_the_tail_of_a_sliding_window_moves_in_hops_at_a_microsecond() -> None:
    q = parse_time("2019-11-24T10:10:00Z")
    ten = parse_time("2019-11-24T10:00:00Z")
    assert [ten - MINUTE, ten, ten] == [Sliding("10m").bounds(q + off)[0] for off in (-1, 0, 1)]


def test_a_tumbling_window_turns_at_its_width_to_the_microsecond() -> None:
    q = parse_time("2019-11-24T00:00:00Z")
    assert (q - 2 * DAY, q - DAY) == Tumbling("1d").bounds(q - 1)
    assert (q - DAY, q) == Tumbling("1d").bounds(q)
    assert (q - DAY, q) == Tumbling("1d").bounds(q + 1)


def test_a_leap_day_is_a_day_like_any_other() -> None:
    leap = parse_time("2020-02-29T00:00:00Z")
    assert (leap, leap + DAY) == Tumbling("1d").bounds(parse_time("2020-03-01T12:00:00Z"))


def test_windows_before_the_epoch_follow_the_same_law() -> None:
    assert (-2 * DAY, -DAY) == Tumbling("1d").bounds(-1)
    assert (-11 * MINUTE, -1) == Sliding("10m").bounds(-1)
