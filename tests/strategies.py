"""Hypothesis strategies: feature groups, logs that crowd around window edges, cuts into batches."""

import itertools
from typing import Any

from hypothesis import strategies as st

from data_contracts.aggregates import Aggregate, Count, Max, Mean, Min, Rate, Sum
from data_contracts.clock import DAY, HOUR, MINUTE, SECOND
from data_contracts.features import FeatureGroup
from data_contracts.windows import Sliding, Tumbling, Window

KEYS = ("ann", "ben", "käthe")
WINDOWS: tuple[Window, ...] = (
    Sliding("100s"),
    Sliding("10m"),
    Sliding("1h"),
    Sliding("24h"),
    Sliding("10d"),
    Tumbling("110s"),
    Tumbling("90m"),
    Tumbling("1d"),
)
AGGREGATES: dict[str, Aggregate] = {
    "events": Count(),
    "shown": Count(where=("impression",)),
    "clicked": Count(where=("click",)),
    "either": Count(where=("click", "impression")),
    "position_sum": Sum("position"),
    "position_mean": Mean("position", where=("impression",)),
    "price_sum": Sum("price", scale=100),
    "price_mean": Mean("price", scale=1_000_000),
    "price_min": Min("price", scale=1000),
    "price_max": Max("price", where=("click",), scale=1000),
}
RATES = {"ctr": Rate("clicked", "shown", prior=0.01, strength=20.0)}
FULL = FeatureGroup(
    name="user",
    entity="user_id",
    aggregates=AGGREGATES,
    windows=WINDOWS,
    rates=RATES,
    defaults={"position_mean": 2.5, "price_min": -1.0},
)
"""Every aggregate over every window."""


@st.composite
def groups(draw: st.DrawFn) -> FeatureGroup:
    """Any choice of the aggregates and windows above, with defaults."""
    names = draw(st.lists(st.sampled_from(sorted(AGGREGATES)), min_size=1, unique=True))
    windows = draw(st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=4, unique=True))
    return FeatureGroup(
        name="user",
        entity="user_id",
        aggregates={name: AGGREGATES[name] for name in names},
        windows=tuple(windows),
        rates=RATES if {"clicked", "shown"} <= set(names) else {},
        defaults={name: draw(st.sampled_from((-1.0, 0.0, 0.1))) for name in names},
    )


def times() -> st.SearchStrategy[int]:
    """µs within 12 days of the epoch, most of them within 1 µs of an edge of some hop."""
    step = st.sampled_from((10 * SECOND, MINUTE, 5 * MINUTE, 30 * MINUTE, 3 * HOUR, DAY))
    edges = st.builds(
        lambda hop, n, off: hop * n + off, step, st.integers(-12, 12), st.integers(-1, 1)
    )
    return edges | st.integers(-12 * DAY, 12 * DAY)


@st.composite
def events(draw: st.DrawFn, max_size: int = 40) -> list[dict[str, Any]]:
    """A log in order of arrival: times in no order, null fields, several events at one instant."""
    row = st.fixed_dictionaries(
        {
            "event_type": st.sampled_from(("impression", "click")),
            "event_time": times(),
            "user_id": st.sampled_from(KEYS),
            "position": st.none() | st.integers(1, 100),
            "price": st.none() | st.floats(-1e6, 1e6, allow_nan=False),
        }
    )
    rows = draw(st.lists(row, max_size=max_size))
    return [{"event_id": f"e{i}", **row} for i, row in enumerate(rows)]


@st.composite
def batches(draw: st.DrawFn, log: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Any permutation of the log, cut anywhere; a batch may be empty."""
    shuffled = draw(st.permutations(log))
    cuts = sorted(draw(st.lists(st.integers(0, len(log)), max_size=5)))
    edges = [0, *cuts, len(log)]
    return [shuffled[a:b] for a, b in itertools.pairwise(edges)]
