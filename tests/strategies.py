"""Hypothesis strategies: feature groups, logs that crowd around window edges, cuts into batches."""

import itertools
from typing import Any

from hypothesis import strategies as st

from data_contracts.aggregates import (
    Aggregate,
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
from data_contracts.clock import DAY, HOUR, MINUTE, SECOND
from data_contracts.derived import Derived, Difference, Rate
from data_contracts.features import FeatureGroup
from data_contracts.windows import Lifetime, Session, Sliding, Tumbling, Window

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
    Lifetime(),
    Lifetime("1970-01-03"),
    Session("10m"),
    Session("5m", within="100m"),
    Session("3h", within="10d"),
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
    "price_zero": Mean("price", scale=1000, nulls="zero"),
    "spread": StdDev("position"),
    "first_price": First("price", scale=1000),
    "last_price": Last("price", where=("click",), scale=1000),
    "last_shop": Last("shop"),
    "last_shops": LastK("shop", k=3),
    "shops": Distinct("shop", cap=3),
    "positions": Distinct("position", where={"device": ("app",)}, cap=100),
    "top_shops": TopK("shop", k=2, cap=3),
    "some_shops": FrequentItems("shop", k=2, sample=3),
    "many_shops": ApproxDistinct("shop", bits=7),
    "median": Quantile("price", scale=1000),
    "upper": Quantile("position", where={"event_type": ("click",)}, rank=0.9),
    "since_click": SinceLast(where=("click",)),
    "on_app": Count(where={"device": ("app", "tablet"), "event_type": ("click",)}),
}
DECAYED: dict[str, Aggregate] = {
    "heat": DecayedCount("30m"),
    "price_heat": DecayedSum("price", scale=100, half_life="1d"),
    "events": Count(),
}
DERIVED: dict[str, Derived] = {
    "ctr": Rate("clicked", "shown", prior=0.01, strength=20.0),
    "not_clicked": Difference("shown", "clicked"),
}
FULL = FeatureGroup(
    name="user",
    entity="user_id",
    aggregates=AGGREGATES,
    windows=WINDOWS[:9] + WINDOWS[10:],
    derived=DERIVED,
    defaults={"position_mean": 2.5, "price_min": -1.0, "last_shops": -2.0, "since_click": 1e9},
)
"""Every aggregate that knows no age over every window."""
FADING = FeatureGroup(name="user", entity="user_id", aggregates=DECAYED, windows=WINDOWS[:5])
"""The aggregates that fade with the age of tiles."""


@st.composite
def groups(draw: st.DrawFn) -> FeatureGroup:
    """Any choice of the aggregates and windows above, with defaults."""
    known = draw(st.sampled_from((AGGREGATES, AGGREGATES, DECAYED)))
    choice = WINDOWS[:5] if known is DECAYED else WINDOWS
    names = draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=6, unique=True))
    windows = draw(st.lists(st.sampled_from(choice), min_size=1, max_size=4, unique_by=_label))
    return FeatureGroup(
        name="user",
        entity="user_id",
        aggregates={name: known[name] for name in names},
        windows=tuple(windows),
        derived=DERIVED if {"clicked", "shown"} <= set(names) else {},
        defaults={name: draw(st.sampled_from((-1.0, 0.0, 0.1))) for name in names},
    )


def _label(window: Window) -> str:
    return window.label


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
            "shop": st.none() | st.sampled_from(("", "a", "b", "c", "d", "ñ")),
            "device": st.none() | st.sampled_from(("app", "web", "tablet")),
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
