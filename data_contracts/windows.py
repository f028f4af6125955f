"""The window law: which events a window at query time *q* holds, and how its tiles are cut.

`Sliding(W)`  : floor(q - W, hop(W)) <= t < q          exact exclusive head, tail in hops
`Tumbling(W)` : floor(q, W) - W <= t < floor(q, W)     the last complete window
`Lifetime()`  : epoch <= t < q                         all there is since a declared day
`Session(gap)`: of the events of Sliding(within) the last chain with distances <= gap; empty once
                q is further than gap from the chain's end

Sawtooth windows as in Chronon (Airbnb); hops are derived from the width, never declared.
"""

from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import numpy as np

from data_contracts.clock import DAY, HOUR, MINUTE, SECOND, duration, parse_time

HOPS = (10 * SECOND, MINUTE, 5 * MINUTE, 30 * MINUTE, 3 * HOUR, DAY)
"""Every hop divides the next, so tiles of one level nest in those of the next."""

RAW = 1
"""Level of an event that waits unfolded: a tile one microsecond wide."""

WHOLE = 2**62
"""Level of the one tile that holds a key's whole life."""

Time = TypeVar("Time", int, np.ndarray)


def floor(t: Time, width: int) -> Time:
    """The largest multiple of `width` that is at most `t` (Euclidean: also for negative times)."""
    return t // width * width


def hop_of(width: int) -> int:
    """The largest hop that is at most a tenth of `width` µs; ValueError under 100 s."""
    fitting = [hop for hop in HOPS if hop * 10 <= width]
    if not fitting:
        raise ValueError(f"a window needs at least 100 s, got {width / SECOND:g} s: widen it")
    return fitting[-1]


@dataclass(frozen=True)
class Sliding:
    """The last `width` before *q*, e.g. `Sliding("10m")`."""

    width: str

    @property
    def label(self) -> str:
        return self.width

    @property
    def hop(self) -> int:
        return hop_of(duration(self.width))

    @property
    def level(self) -> int:
        return self.hop

    @property
    def tiles(self) -> int:
        """How many tiles of its level it reaches at most."""
        return duration(self.width) // self.hop + 2

    def bounds(self, q: Time) -> tuple[Time, Time]:
        """`(lo, hi)` with the window holding exactly the events `lo <= t < hi`."""
        return floor(q - duration(self.width), self.hop), q

    def tile_start(self, times: np.ndarray) -> np.ndarray:
        """The start (µs) of the tile that holds each time."""
        return floor(times, self.hop)


@dataclass(frozen=True)
class Tumbling:
    """The last complete window of `width`, anchored at the epoch, e.g. `Tumbling("1d")`."""

    width: str

    @property
    def label(self) -> str:
        return f"last_{self.width}"

    @property
    def hop(self) -> int:
        width = duration(self.width)
        hop_of(width)
        if width % HOPS[0]:
            raise ValueError(f"a tumbling window holds whole 10 s, got {self.width}: round it")
        return max(hop for hop in HOPS if width % hop == 0)

    @property
    def level(self) -> int:
        return self.hop

    @property
    def tiles(self) -> int:
        """How many tiles of its level it reaches at most, with those of the window under way."""
        return 2 * duration(self.width) // self.hop + 1

    def bounds(self, q: Time) -> tuple[Time, Time]:
        """`(lo, hi)` with the window holding exactly the events `lo <= t < hi`."""
        hi = floor(q, duration(self.width))
        return hi - duration(self.width), hi

    def tile_start(self, times: np.ndarray) -> np.ndarray:
        """The start (µs) of the tile that holds each time."""
        return floor(times, self.hop)


@dataclass(frozen=True)
class Lifetime:
    """Everything before *q* since the day `since` (UTC)."""

    since: str = "1970-01-01"

    @property
    def label(self) -> str:
        return "lifetime"

    @property
    def epoch(self) -> int:
        """The first moment (µs) that belongs to the window."""
        try:
            date.fromisoformat(self.since)
        except ValueError as error:
            raise ValueError(f"lifetime since {self.since!r}: no day like 2019-11-24") from error
        return parse_time(f"{self.since}T00:00:00Z")

    @property
    def level(self) -> int:
        return WHOLE

    @property
    def tiles(self) -> int:
        return 1

    def bounds(self, q: Time) -> tuple[Time, Time]:
        """`(lo, hi)` with the window holding exactly the events `lo <= t < hi`."""
        return q * 0 + self.epoch, q

    def tile_start(self, times: np.ndarray) -> np.ndarray:
        """The start (µs) of the tile that holds each time; an earlier time than `since` stays."""
        return np.minimum(times, self.epoch)


@dataclass(frozen=True)
class Session:
    """The session under way: the last chain of events at most `gap` apart, e.g. `Session("30m")`.

    A session reaches back `within` at most, cut like the tail of `Sliding(within)`.
    """

    gap: str
    within: str = "1d"

    @property
    def label(self) -> str:
        return f"session_{self.gap}"

    @property
    def hop(self) -> int:
        """Segments of a session end at multiples of this, so that its tail can be cut exactly."""
        if duration(self.gap) >= duration(self.within):
            raise ValueError(f"a session with a gap of {self.gap} within {self.within}: widen it")
        return hop_of(duration(self.within))

    @property
    def level(self) -> int:
        return -duration(self.gap)

    @property
    def tiles(self) -> int:
        """How many segments it may consist of, with those that a late event could still join."""
        span = duration(self.within) + self.hop
        return span // duration(self.gap) + span // self.hop + 2

    def bounds(self, q: Time) -> tuple[Time, Time]:
        """`(lo, hi)` of the events among which the chain is sought: `lo <= t < hi`."""
        return floor(q - duration(self.within), self.hop), q

    def tile_start(self, times: np.ndarray) -> np.ndarray:
        """Every event begins a segment of its own; `sessions` joins them."""
        return times


Window = Sliding | Tumbling | Lifetime | Session
