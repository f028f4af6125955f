"""A log made to hurt: late and future events, ties, nulls, duplicates; cut and ordered at will."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data_contracts.aggregates import Count, Max, Mean, Min, Rate, Sum
from data_contracts.clock import DAY, HOUR, MINUTE, SECOND, duration, format_time
from data_contracts.features import FeatureGroup
from data_contracts.windows import Sliding, Tumbling, Window
from tests.oracle import oracle_hop
from tests.spark.lakes import NOON, click, impression
from tests.strategies import WINDOWS

USERS = [f"u{i}" for i in range(4)]
ITEMS = [f"i{i}" for i in range(5)]
PARTS = 3
"""Stretches of arrival; each part holds events of its own time and late ones of long before."""

WIDE = FeatureGroup(
    name="user",
    entity="user_id",
    aggregates={
        "events": Count(),
        "shown": Count(where=("impression",)),
        "clicked": Count(where=("click",)),
        "position": Sum("position"),
        "affinity": Mean("affinity", scale=1_000_000),
        "least": Min("affinity", scale=1000),
        "most": Max("affinity", where=("impression",), scale=1000),
    },
    windows=WINDOWS,
    rates={"ctr": Rate("clicked", "shown", prior=0.01, strength=20.0)},
    defaults={"least": -1.0},
)
"""Every kind of aggregate over every kind of window."""


def parts(seed: int = 11) -> list[list[dict[str, Any]]]:
    """`PARTS` lists of canonical events; the part's last arrival is `arrival(part)`."""
    rng = np.random.default_rng(seed)
    return [[_event(rng, part, i) for i in range(70)] for part in range(PARTS)]


def arrival(part: int) -> int:
    """µs at which the last events of a part arrive: three parts, a day and a bit apart."""
    return NOON + part * (DAY + HOUR) + 17 * SECOND


def _event(rng: np.random.Generator, part: int, i: int) -> dict[str, Any]:
    user, item = str(rng.choice(USERS)), str(rng.choice(ITEMS))
    at = _time(rng, part)
    arrived = format_time(arrival(part) - (i % 5) * SECOND)
    if i % 6 == 5:
        return click(f"p{part}-{i}", at, user, item, arrived_at=arrived)
    affinity = None if i % 4 == 1 else float(np.round(rng.gamma(1, 30), 6))
    more = {"position": int(rng.integers(1, 4)), "affinity": affinity, "arrived_at": arrived}
    return impression(f"p{part}-{i}", at, user, item, **more)


def _time(rng: np.random.Generator, part: int) -> int:
    """µs: within the hour before the arrival, long before it, on an edge, or just after it."""
    match rng.integers(5):
        case 0:
            return arrival(part) - int(rng.integers(12 * DAY))
        case 1:
            hop = int(rng.choice([10 * SECOND, MINUTE, 5 * MINUTE, 30 * MINUTE, 3 * HOUR]))
            return (
                arrival(part) // hop * hop - int(rng.integers(3)) * hop + int(rng.integers(-1, 2))
            )
        case 2:
            return arrival(part) + int(rng.integers(45)) * SECOND
        case _:
            return arrival(part) - int(rng.integers(HOUR))


def query_times(
    windows: Sequence[Window], times: Sequence[int], since: int, each: int
) -> list[int]:
    """Moments (µs) from `since` on at which some event enters or leaves a window, and ±1 µs."""
    found = {since, since + 1, since + 30 * DAY}
    for t in times:
        found |= {t - 1, t, t + 1}
    for window in windows:
        edges = sorted({e for t in times for e in _edges(window, t) if e > since})
        for edge in edges[:: max(1, len(edges) // each)]:
            found |= {edge - 1, edge, edge + 1}
    return sorted(q for q in found if q >= since)


def _edges(window: Window, t: int) -> Iterator[int]:
    """The query times at which an event at `t` enters and leaves the window."""
    width = duration(window.width)
    match window:
        case Tumbling():
            yield from ((t // width + 1) * width, (t // width + 2) * width)
        case Sliding():
            hop = oracle_hop(width)
            yield (t // hop + 1) * hop + width
