"""The window law: which events a query at time *q* may see. All times are int64 microseconds.

`Sliding(W)`  : floor(q - W, hop(W)) <= t < q          exact exclusive head, tail in hops
`Tumbling(W)` : floor(q, W) - W <= t < floor(q, W)     the last complete window, epoch-anchored

Sawtooth windows as in Chronon (Airbnb); hops are derived from the width, never declared.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from data_contracts.clock import DAY, HOUR, MINUTE, SECOND, duration

HOPS = (10 * SECOND, MINUTE, 5 * MINUTE, 30 * MINUTE, 3 * HOUR, DAY)
"""Every hop divides the next, so tiles of one level nest in those of the next."""

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

    def bounds(self, q: Time) -> tuple[Time, Time]:
        """`(lo, hi)` with the window holding exactly the events `lo <= t < hi`."""
        return floor(q - duration(self.width), self.hop), q


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

    def bounds(self, q: Time) -> tuple[Time, Time]:
        """`(lo, hi)` with the window holding exactly the events `lo <= t < hi`."""
        hi = floor(q, duration(self.width))
        return hi - duration(self.width), hi


Window = Sliding | Tumbling
