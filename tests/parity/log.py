"""A log made to hurt: late and future events, ties, nulls, duplicates; cut and ordered at will."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data_contracts.aggregates import (
    ApproxDistinct,
    Count,
    DecayedCount,
    DecayedSum,
    Distinct,
    First,
    FrequentItems,
    Last,
    LastK,
    Max,
    Mean,
    Min,
    Quantile,
    SinceLast,
    StdDev,
    Sum,
    TopK,
)
from data_contracts.clock import DAY, HOUR, MINUTE, SECOND, duration, format_time
from data_contracts.derived import Rate
from data_contracts.features import FeatureGroup
from data_contracts.oracle import oracle_hop
from data_contracts.windows import Lifetime, Session, Sliding, Tumbling, Window
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
        "spread": StdDev("affinity", scale=1000),
        "first": First("position"),
        "last": Last("affinity", scale=1000),
        "last_items": LastK("item_id", where=("click",), k=3),
        "items": Distinct("item_id", cap=4),
        "top_items": TopK("item_id", k=2, cap=4),
        "some_items": FrequentItems("item_id", k=2, sample=16),
        "about_items": ApproxDistinct("item_id", bits=7),
        "median": Quantile("affinity", scale=1000),
        "since": SinceLast(where={"event_type": ("click",)}),
    },
    windows=(*WINDOWS[0:1], *WINDOWS[2:5], *WINDOWS[6:7], *WINDOWS[9:11], *WINDOWS[12:]),
    derived={"ctr": Rate("clicked", "shown", prior=0.01, strength=20.0)},
    defaults={"least": -1.0},
)
"""Every aggregate that knows no age over every kind of window."""

FADING = FeatureGroup(
    name="item",
    entity="item_id",
    aggregates={
        "impressions": Count(where=("impression",)),
        "heat": DecayedCount("1h"),
        "glow": DecayedSum("affinity", where=("impression",), scale=1000, half_life="6h"),
    },
    windows=WINDOWS[:5],
)
"""Aggregates that fade with the age of tiles."""


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
    match window:
        case Tumbling():
            width = duration(window.width)
            yield from ((t // width + 1) * width, (t // width + 2) * width)
        case Sliding():
            width = duration(window.width)
            yield (t // oracle_hop(width) + 1) * oracle_hop(width) + width
        case Session():
            width = duration(window.within)
            yield (t // oracle_hop(width) + 1) * oracle_hop(width) + width
            yield t + duration(window.gap) + 1
        case Lifetime():
            yield t
