"""The oracle: features of one key at one query time, in plain Python and the slow way on purpose.

It shares nothing with the engines but the declaration: windows, hops, sessions, orders and sketches
are stated here a second time, from the law as it is written down.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from data_contracts import aggregates as agg
from data_contracts.derived import Rate
from data_contracts.features import FeatureGroup
from data_contracts.oracle_sketches import bucket_middle, hyperloglog, most_frequent, sampled_counts
from data_contracts.windows import Lifetime, Session, Sliding, Tumbling, Window

Event = Mapping[str, Any]
"""A canonical event: `event_id`, `event_type`, `event_time` (µs) and fields, None where absent."""

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


def oracle_features(group: FeatureGroup, events: Iterable[Event], key: Any, q: int) -> list[float]:
    """The features of `key` (of a pair: both values) at `q` (µs), as in `group.feature_names`."""
    wanted: tuple[Any, ...] = (key,) if isinstance(key, str | int) else key
    mine = [event for event in events if tuple(map(event.get, group.key_fields)) == wanted]
    mine.sort(key=lambda event: (event["event_time"], oracle_code(event["event_id"])))
    answer: list[float] = []
    for window in group.windows:
        seen = oracle_seen(window, mine, q)
        values: dict[str, list[float]] = {}
        for name, aggregate in group.aggregates.items():
            values[name] = _values(aggregate, seen, group.defaults.get(name, 0.0), window, q)
        for name, made in group.derived.items():
            left, right = (values[of][0] for of in made.of)
            if isinstance(made, Rate):
                values[name] = [(left + made.prior * made.strength) / (right + made.strength)]
            else:
                values[name] = [left - right]
        answer.extend(value for found in values.values() for value in found)
    return answer


def oracle_seen(window: Window, events: Sequence[Event], q: int) -> list[Event]:
    """Which of a key's events, sorted by time, the window at `q` holds."""
    lo, hi = oracle_bounds(window, q)
    seen = [event for event in events if lo <= event["event_time"] < hi]
    if isinstance(window, Session):
        gap = _micros(window.gap)
        start, next_time = len(seen), q
        while start and next_time - seen[start - 1]["event_time"] <= gap:
            start -= 1
            next_time = seen[start]["event_time"]
        seen = seen[start:]
    return seen


def oracle_bounds(window: Window, q: int) -> tuple[int, int]:
    """`(lo, hi)` in µs: the window holds (a session: is found among) the events `lo <= t < hi`."""
    match window:
        case Sliding() | Session():
            width = _micros(window.width if isinstance(window, Sliding) else window.within)
            return oracle_floor(q - width, oracle_hop(width)), q
        case Tumbling():
            width = _micros(window.width)
            return oracle_floor(q, width) - width, oracle_floor(q, width)
        case Lifetime():
            day = datetime.fromisoformat(window.since).replace(tzinfo=UTC)
            return int(day.timestamp()) * 1_000_000, q


def oracle_hop(width: int) -> int:
    """The hop of a sliding window of `width` µs."""
    for least, hop in HOP_BY_LEAST_WIDTH:
        if width >= least:
            return hop
    raise AssertionError(f"no window is {width} µs wide")


def oracle_floor(t: int, width: int) -> int:
    """The last multiple of `width` not after `t`."""
    return t - t % width


def oracle_code(text: str) -> int:
    """What a string counts as: the upper 53 of the 64 bits of its BLAKE2b."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") // 2048


def _values(
    aggregate: agg.Aggregate, seen: list[Event], default: float, window: Window, q: int
) -> list[float]:
    where = aggregate.where
    named = dict(where) if isinstance(where, Mapping) else {"event_type": where} if where else {}
    chosen = [e for e in seen if all(e.get(name) in named[name] for name in named)]
    times = [event["event_time"] for event in chosen]
    match aggregate:
        case agg.Count():
            return [float(len(chosen))]
        case agg.DecayedCount():
            return [_decayed(times, [1] * len(times), aggregate.half_life, window, q) / 65536]
        case agg.SinceLast():
            return [(q - max(times)) / 1_000_000 if times else default]
        case _:
            return _of_field(aggregate, chosen, default, window, q)


def _of_field(
    aggregate: Any, chosen: list[Event], default: float, window: Window, q: int
) -> list[float]:
    field, scale = aggregate.field, aggregate.scale
    if aggregate.nulls == "zero":
        chosen = [e if e.get(field) is not None else {**e, field: 0} for e in chosen]
    chosen = [event for event in chosen if event.get(field) is not None]
    fixed = [
        oracle_code(e[field]) if isinstance(e[field], str) else round(e[field] * scale)
        for e in chosen
    ]
    if isinstance(aggregate, agg.DecayedSum):
        times = [event["event_time"] for event in chosen]
        return [_decayed(times, fixed, aggregate.half_life, window, q) / 65536 / scale]
    if isinstance(aggregate, agg.Distinct):
        return [float(min(len(set(fixed)), aggregate.cap))]
    if isinstance(aggregate, agg.ApproxDistinct):
        return [hyperloglog(fixed, aggregate.bits)]
    counts = {value: fixed.count(value) for value in sorted(set(fixed))}
    if isinstance(aggregate, agg.TopK):
        return most_frequent(list(counts.items())[: aggregate.cap], aggregate.k, default, scale)
    if isinstance(aggregate, agg.FrequentItems):
        codes = [oracle_code(event["event_id"]) for event in chosen]
        drawn = sampled_counts(codes, fixed, aggregate.sample)
        return most_frequent(drawn, aggregate.k, default, scale)
    if isinstance(aggregate, agg.LastK):
        newest = [value / scale for value in reversed(fixed)][: aggregate.k]
        return newest + [default] * (aggregate.k - len(newest))
    if not fixed:
        return [default]
    total, n = sum(fixed), len(fixed)
    match aggregate:
        case agg.Mean():
            return [float(total) / scale / n]
        case agg.Min():
            return [min(fixed) / scale]
        case agg.Max():
            return [max(fixed) / scale]
        case agg.Sum():
            return [float(total) / scale]
        case agg.First():
            return [fixed[0] / scale]
        case agg.Last():
            return [fixed[-1] / scale]
        case agg.StdDev():
            spread = n * sum(value * value for value in fixed) - total * total
            return [math.sqrt(_two_halves(spread) / (float(n) * float(n))) / scale]
        case agg.Quantile():
            ranked = sorted(fixed)[max(math.ceil(Fraction(str(aggregate.rank)) * n), 1) - 1]
            return [bucket_middle(ranked) / scale]
        case _:
            raise AssertionError(f"the oracle does not know {aggregate!r}")


def _decayed(times: list[int], values: list[int], half_life: str, window: Any, q: int) -> int:
    hop, total = oracle_hop(_micros(window.width)), 0
    for t, value in zip(times, values, strict=True):
        age = oracle_floor(q, hop) - oracle_floor(t, hop)
        total += value * round(65536 * 2.0 ** (-age / _micros(half_life)))
    return total


def _two_halves(value: int) -> float:
    return float(value >> 64) * 2.0**64 + float(value & (2**64 - 1))


def _micros(width: str) -> int:
    return int(width[:-1]) * MICROSECONDS[width[-1]]
