"""The oracle: features of one key at one query time, in plain Python and the slow way on purpose.

It shares nothing with the engines but the declaration: windows, hops and aggregates are stated here
a second time, from the law as it is written down.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from data_contracts.aggregates import Aggregate, Count, Max, Mean, Min, Sum
from data_contracts.features import FeatureGroup
from data_contracts.windows import Sliding, Tumbling, Window

Event = Mapping[str, Any]
"""A canonical event: `event_type`, `event_time` (µs), key fields and numbers, None where absent."""

HOP_BY_LEAST_WIDTH = (
    (864_000_000_000, 86_400_000_000),
    (108_000_000_000, 10_800_000_000),
    (18_000_000_000, 1_800_000_000),
    (3_000_000_000, 300_000_000),
    (600_000_000, 60_000_000),
    (100_000_000, 10_000_000),
)
"""(least width, hop) in µs: 10 d -> 1 d, 30 h -> 3 h, 5 h -> 30 min, 50 min -> 5 min, …"""

MICROSECONDS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


def oracle_features(group: FeatureGroup, events: Iterable[Event], key: str, q: int) -> list[float]:
    """The features of `key` at `q` (µs) in the order of `group.feature_names`."""
    mine = [event for event in events if event.get(group.entity) == key]
    answer: list[float] = []
    for window in group.windows:
        lo, hi = oracle_bounds(window, q)
        seen = [event for event in mine if lo <= event["event_time"] < hi]
        values: dict[str, float] = {}
        for name, aggregate in group.aggregates.items():
            values[name] = _value(aggregate, seen, group.defaults.get(name, 0.0))
        for name, rate in group.rates.items():
            above = values[rate.numerator] + rate.prior * rate.strength
            values[name] = above / (values[rate.denominator] + rate.strength)
        answer.extend(values.values())
    return answer


def oracle_bounds(window: Window, q: int) -> tuple[int, int]:
    """`(lo, hi)` in µs: the window holds the events `lo <= t < hi`."""
    width = int(window.width[:-1]) * MICROSECONDS[window.width[-1]]
    match window:
        case Sliding():
            return oracle_floor(q - width, oracle_hop(width)), q
        case Tumbling():
            return oracle_floor(q, width) - width, oracle_floor(q, width)


def oracle_hop(width: int) -> int:
    """The hop of a sliding window of `width` µs."""
    for least, hop in HOP_BY_LEAST_WIDTH:
        if width >= least:
            return hop
    raise AssertionError(f"no window is {width} µs wide")


def oracle_floor(t: int, width: int) -> int:
    """The last multiple of `width` not after `t`."""
    behind = t % width
    return t - behind


def _value(aggregate: Aggregate, seen: list[Event], default: float) -> float:
    chosen: list[Event] = []
    for event in seen:
        if not aggregate.where or event["event_type"] in aggregate.where:
            chosen.append(event)
    if isinstance(aggregate, Count):
        return float(len(chosen))
    fixed: list[int] = []
    for event in chosen:
        if event.get(aggregate.field) is not None:
            fixed.append(round(event[aggregate.field] * aggregate.scale))
    if not fixed:
        return default
    total, least, most = 0, fixed[0], fixed[0]
    for value in fixed:
        total += value
        least = value if value < least else least
        most = value if value > most else most
    match aggregate:
        case Sum():
            return total / aggregate.scale
        case Mean():
            return total / aggregate.scale / len(fixed)
        case Min():
            return least / aggregate.scale
        case Max():
            return most / aggregate.scale
