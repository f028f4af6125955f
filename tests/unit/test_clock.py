import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.clock import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    ReplayClock,
    SystemClock,
    day_of,
    duration,
    format_time,
    parse_time,
)

YEAR_1, YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999

TIMES = [
    ("1970-01-01T00:00:00Z", 0),
    ("1969-12-31T23:59:59.999999Z", -1),
    ("2019-11-24T00:00:17.004101Z", 1_574_553_617_004_101),
    ("2019-11-24T00:00:17.0041Z", 1_574_553_617_004_100),
    ("2019-11-24t00:00:17.1z", 1_574_553_617_100_000),
    ("2019-11-24 00:00:17+00:00", 1_574_553_617_000_000),
    ("2019-11-24T05:30:17+05:30", 1_574_553_617_000_000),
    ("2019-11-23T19:00:17-05:00", 1_574_553_617_000_000),
    ("2020-02-29T00:00:00Z", 1_582_934_400_000_000),
]

NO_TIMES = [
    "",
    "1574553617",
    "1574553617004",
    "2019-11-24",
    "2019-11-24T00:00:17",
    "2019-11-24T00:00Z",
    "2019-11-24T00:00:17,5Z",
    "2019-11-24T00:00:17.0000001Z",
    "57971-01-01T00:00:00Z",
    "2019-02-29T00:00:00Z",
    "2019-13-01T00:00:00Z",
    "2019-11-24T24:00:00Z",
    "2016-12-31T23:59:60Z",
    "2019-11-24T00:00:17+24:00",
    "2019-11-24T00:00:17+00:75",
    "2019-11-24T00:00:17Z\n",
    " 2019-11-24T00:00:17Z",
    "２０１９-11-24T00:00:17Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00",
]


@pytest.mark.parametrize(("text", "us"), TIMES)
def test_an_rfc_3339_time_becomes_microseconds(text: str, us: int) -> None:
    assert us == parse_time(text)


@pytest.mark.parametrize("text", NO_TIMES)
def test_whatever_else_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


@given(st.integers(YEAR_1, YEAR_9999))
def test_a_time_survives_writing_and_reading(us: int) -> None:
    assert us == parse_time(format_time(us))
    assert day_of(us) == format_time(us)[:10]


def test_a_formatted_time_has_six_digits_and_four_for_the_year() -> None:
    assert "0001-01-01T00:00:00.000000Z" == format_time(YEAR_1)


@pytest.mark.parametrize(
    ("text", "us"),
    [("90s", 90 * SECOND), ("10m", 10 * MINUTE), ("24h", 24 * HOUR), ("30d", 30 * DAY)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, us: int) -> None:
    assert us == duration(text)


@pytest.mark.parametrize("text", ["", "10", "m", "0m", "-1h", "1.5h", "1w", "10 m", "10m\n", "1٠m"])
def test_whatever_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration(text)


def test_a_replay_clock_stands_still_and_never_goes_back() -> None:
    clock = ReplayClock(100)
    assert 100 == clock.now()
    assert 150 == clock.advance(150)
    assert 150 == clock.advance(120)
    assert 150 == clock.now()


def test_a_replay_clock_moved_by_many_threads_ends_at_the_latest_time() -> None:
    clock = ReplayClock()
    threads = [
        threading.Thread(
            target=lambda start=start: [clock.advance(t) for t in range(start, 4000, 4)]
        )
        for start in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 3999 == clock.now()


def test_the_system_clock_is_the_wall_clock_in_microseconds() -> None:
    before = time.time_ns() // 1000
    now = SystemClock().now()
    assert before <= now <= time.time_ns() // 1000
