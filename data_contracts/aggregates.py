"""The aggregates of a feature group: what each holds as state, and its value at query time.

`finalize` exists here only, in numpy: stream, backfill, training set and reader all call it.
Nulls of the field are skipped unless `nulls="zero"` says that they count as 0.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_contracts.accumulators import (
    TIME,
    Accumulator,
    Decayed,
    Reduce,
    Source,
    Where,
    conditions,
)
from data_contracts.aggregate import Filtered, OfField, Ranked, State, table
from data_contracts.clock import SECOND, duration
from data_contracts.entries import Counts, Newest, Ordered, Part
from data_contracts.sketches import ApproxDistinct, FrequentItems, Quantile
from data_contracts.wide import variance


@dataclass(frozen=True)
class Count(Filtered):
    """Number of matching events (all when `where` is empty)."""

    where: Where = ()
    outputs: ClassVar[tuple[str, ...]] = ("",)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Accumulator("add", Source(None, conditions(self.where)), "count"),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return state[0].astype(np.float64)[:, None]


@dataclass(frozen=True)
class DecayedCount(Filtered):
    """Matching events, each weighted by 2^-(age / half_life) with the age in whole hops."""

    half_life: str
    where: Where = ()
    outputs: ClassVar[tuple[str, ...]] = ("",)

    @property
    def parts(self) -> tuple[Part, ...]:
        count = Accumulator("add", Source(None, conditions(self.where)), "count")
        return (Decayed(count, duration(self.half_life)),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return (state[0] / Decayed.SCALE)[:, None]


@dataclass(frozen=True)
class SinceLast(Filtered):
    """Seconds from the last matching event of the window to *q*; the default where none was."""

    where: Where = ()
    outputs: ClassVar[tuple[str, ...]] = ("",)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Accumulator("max", Source(TIME, conditions(self.where))),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        seen = state[0] != np.iinfo(np.int64).min
        return np.where(seen, (q - np.where(seen, state[0], q)) / SECOND, default)[:, None]


class Sum(OfField):
    """Sum of a field (scale 100 for cents); the group's default where nothing was seen."""

    reduce: ClassVar[Reduce] = "add"

    @property
    def parts(self) -> tuple[Part, ...]:
        count = Accumulator("add", self.source, "count")
        return (count, Accumulator(self.reduce, self.source))

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return np.where(state[0] > 0, state[1] / self.scale, default)[:, None]


class Min(Sum):
    """Smallest value of a field; the group's default where nothing was seen."""

    reduce = "min"


class Max(Sum):
    """Largest value of a field; the group's default where nothing was seen."""

    reduce = "max"


class Mean(Sum):
    """Mean of a field; the group's default where nothing was seen."""

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        mean = state[1] / self.scale / np.maximum(state[0], 1)
        return np.where(state[0] > 0, mean, default)[:, None]


class StdDev(OfField):
    """Population standard deviation of a field, from the integer sum of squares."""

    @property
    def parts(self) -> tuple[Part, ...]:
        kinds = ("count", "value", "square")
        return tuple(Accumulator("add", self.source, kind) for kind in kinds)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        count, total, squares = state
        spread = np.sqrt(variance(np.maximum(count, 1), total, squares)) / self.scale
        return np.where(count > 0, spread, default)[:, None]


@dataclass(frozen=True)
class DecayedSum(OfField):
    """Sum of a field, each value weighted by 2^-(age / half_life) with the age in whole hops."""

    half_life: str = "1d"

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Decayed(Accumulator("add", self.source), duration(self.half_life)),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return (state[0] / Decayed.SCALE / self.scale)[:, None]


class First(OfField):
    """The earliest value of a field, ties by event_id's code."""

    strings = True

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Ordered(self.source, 1),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return table(state[0], len(q), 1, default, self.scale)


class Last(OfField):
    """The latest value of a field, ties by event_id's code."""

    strings = True

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Newest(self.source, 1),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return table(state[0], len(q), 1, default, self.scale)


@dataclass(frozen=True)
class LastK(OfField):
    """The `k` latest values of a field, `_1` the latest; the default where there are fewer."""

    k: int = 3
    strings: ClassVar[bool] = True

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Newest(self.source, self.k),)

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(f"_{i}" for i in range(1, self.k + 1))

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return table(state[0][::-1], len(q), self.k, default, self.scale)


@dataclass(frozen=True)
class Distinct(OfField):
    """How many distinct values a field takes, exactly up to `cap`, and `cap` from there on."""

    cap: int = 0
    strings: ClassVar[bool] = True

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Counts(self.source, self.cap),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return np.bincount(state[0][:, 0], minlength=len(q)).astype(np.float64)[:, None]


@dataclass(frozen=True)
class TopK(Ranked):
    """The `k` most frequent values of a field, `_1` the first, each with its `_count`.

    Ties go to the smaller value. Exact while the window holds at most `cap` distinct values; beyond
    it the answer is the exact top of the `cap` smallest ones (of a string: of a random sample).
    """

    cap: int = 0

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Counts(self.source, self.cap),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return np.column_stack(self.ranked(state[0], len(q), default))


Aggregate = (
    Count | DecayedCount | SinceLast | Sum | Min | Max | Mean | StdDev | DecayedSum
    | First | Last | LastK | Distinct | TopK | FrequentItems | ApproxDistinct | Quantile
)  # fmt: skip
