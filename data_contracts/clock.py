"""Time: int64 microseconds since the epoch, UTC, and the clocks every plane takes it from."""

import re
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:[0-5]\d)\Z", re.ASCII
)


class Clock(Protocol):
    """Where a plane reads the event time of "now"; latencies and leases never come from here."""

    def now(self) -> int:
        """Microseconds since the epoch, UTC."""
        ...


class SystemClock:
    """The wall clock of this machine."""

    def now(self) -> int:
        return time.time_ns() // 1000


class ReplayClock:
    """A clock that stands where the replayed log stands; it never goes back."""

    def __init__(self, start: int = 0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> int:
        return self._now

    def advance(self, to: int) -> int:
        """Move to event time `to` (µs) unless already beyond it; returns where the clock stands."""
        with self._lock:
            self._now = max(self._now, to)
            return self._now


def parse_time(text: str) -> int:
    """Microseconds of an RFC 3339 time with an offset, e.g. `2019-11-24T00:00:17.004101Z`.

    Raises ValueError when `text` is not such a time (epoch numbers, missing offset, year 57971).
    """
    if not _TIME.match(text):
        raise ValueError(f"not an RFC 3339 time with an offset: {text[:64]!r}")
    try:
        moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"outside the years 1 to 9999 in UTC: {text!r}") from None
    except ValueError as error:
        raise ValueError(f"{error}: {text!r}") from None
    return micros(moment)


def micros(moment: datetime) -> int:
    """Microseconds of `moment`, which is UTC where it has no zone."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def format_time(us: int) -> str:
    """The RFC 3339 form of `us` in UTC, always with six digits of fraction."""
    moment = _EPOCH + timedelta(microseconds=us)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


@lru_cache(maxsize=1024)
def duration(text: str) -> int:
    """Microseconds of `90s`, `10m`, `24h` or `30d`; ValueError for anything else."""
    match = re.fullmatch(r"([1-9][0-9]*)([smhd])", text)
    if not match:
        raise ValueError(f"not a duration like '90s', '10m', '24h', '30d': {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def day_of(us: int) -> str:
    """The UTC day of `us` as `YYYY-MM-DD`."""
    return (_EPOCH + timedelta(microseconds=us)).date().isoformat()
