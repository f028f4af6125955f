"""The aggregates of a feature group: what each holds as state, and its value at query time.

`finalize` exists here only, in numpy: stream, backfill, training set and reader all call it.
Nulls of the field are skipped unless `nulls="zero"` says that they count as 0.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import ClassVar

import numpy as np

from data_contracts.accumulators import (
    TIME,
    Accumulator,
    Decayed,
    Nulls,
    Reduce,
    Source,
    Where,
    conditions,
    normal,
)
from data_contracts.clock import SECOND, duration
from data_contracts.entries import Buckets, Counts, Newest, Ordered, Part, Registers
from data_contracts.wide import variance

State = Sequence[np.ndarray]
"""Per part of an aggregate: int64[n] of an accumulator, or int64[m, 1 + width] rows of entries
sorted by (query, identity), the query's index first."""


class _Filtered:
    """Keeps its `where` in one form, so that one meaning has one digest."""

    where: Where

    def __post_init__(self) -> None:
        with suppress(ValueError):  # `check_group` refuses it, naming its group
            object.__setattr__(self, "where", normal(self.where))


@dataclass(frozen=True)
class Count(_Filtered):
    """Number of matching events (all when `where` is empty)."""

    where: Where = ()
    outputs: ClassVar[tuple[str, ...]] = ("",)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Accumulator("add", Source(None, conditions(self.where)), "count"),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return state[0].astype(np.float64)[:, None]


@dataclass(frozen=True)
class DecayedCount(_Filtered):
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
class SinceLast(_Filtered):
    """Seconds from the last matching event of the window to *q*; the default where none was."""

    where: Where = ()
    outputs: ClassVar[tuple[str, ...]] = ("",)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Accumulator("max", Source(TIME, conditions(self.where))),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        seen = state[0] != np.iinfo(np.int64).min
        return np.where(seen, (q - np.where(seen, state[0], q)) / SECOND, default)[:, None]


@dataclass(frozen=True)
class _OfField(_Filtered):
    """An aggregate of one field's fixed-point values; `scale` units make 1."""

    field: str
    where: Where = ()
    scale: int = 1
    nulls: Nulls = "skip"
    strings: ClassVar[bool] = False
    """Whether the field may be a string, taken as its 53-bit code."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The suffixes of its values' names."""
        return ("",)

    @property
    def source(self) -> Source:
        return Source(self.field, conditions(self.where), self.scale, self.nulls)


class Sum(_OfField):
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


class StdDev(_OfField):
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
class DecayedSum(_OfField):
    """Sum of a field, each value weighted by 2^-(age / half_life) with the age in whole hops."""

    half_life: str = "1d"

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Decayed(Accumulator("add", self.source), duration(self.half_life)),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return (state[0] / Decayed.SCALE / self.scale)[:, None]


class First(_OfField):
    """The earliest value of a field, ties by event_id's code."""

    strings = True

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Ordered(self.source, 1),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return _table(state[0], len(q), 1, default, self.scale)


class Last(_OfField):
    """The latest value of a field, ties by event_id's code."""

    strings = True

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Newest(self.source, 1),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return _table(state[0], len(q), 1, default, self.scale)


@dataclass(frozen=True)
class LastK(_OfField):
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
        return _table(state[0][::-1], len(q), self.k, default, self.scale)


@dataclass(frozen=True)
class Distinct(_OfField):
    """How many distinct values a field takes, exactly up to `cap`, and `cap` from there on."""

    cap: int = 0
    strings: ClassVar[bool] = True

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Counts(self.source, self.cap),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        return np.bincount(state[0][:, 0], minlength=len(q)).astype(np.float64)[:, None]


@dataclass(frozen=True)
class TopK(_OfField):
    """The `k` most frequent values of a field, `_1` the first, each with its `_count`.

    Ties go to the smaller value. Exact while the window holds at most `cap` distinct values; beyond
    it the answer is the exact top of the `cap` smallest ones (of a string: of a random sample).
    """

    k: int = 1
    cap: int = 0
    strings: ClassVar[bool] = True

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Counts(self.source, self.cap),)

    @property
    def outputs(self) -> tuple[str, ...]:
        ranks = range(1, self.k + 1)
        return (*(f"_{i}" for i in ranks), *(f"_{i}_count" for i in ranks))

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        rows = state[0][np.lexsort((state[0][:, 1], -state[0][:, 2], state[0][:, 0]))]
        values = _table(rows[:, :2], len(q), self.k, default, self.scale)
        return np.column_stack([values, _table(rows, len(q), self.k, 0.0, 1)])


@dataclass(frozen=True)
class ApproxDistinct(_OfField):
    """Distinct values by HyperLogLog (Flajolet et al. 2007) with 2^`bits` registers.

    The relative standard error is 1.04 / 2^(bits / 2); the registers, and so the estimate, are the
    same in every engine and order.
    """

    bits: int = 8
    strings: ClassVar[bool] = True

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Registers(self.source, 2**self.bits),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        m, rows = 2**self.bits, state[0]
        used = np.bincount(rows[:, 0], minlength=len(q))
        harmonic = np.bincount(rows[:, 0], 2.0 ** -rows[:, 2], minlength=len(q)) + (m - used)
        raw = 0.7213 / (1 + 1.079 / m) * m * m / harmonic
        few = _linear_counts(m)[used]
        return np.where((raw <= 2.5 * m) & (used < m), few, raw)[:, None]


@dataclass(frozen=True)
class Quantile(_OfField):
    """The value of rank `rank` of a field, within 1/128 of it: a log-linear histogram.

    The buckets, and so the answer, are the same in every engine and order.
    """

    rank: float = 0.5

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Buckets(self.source, Buckets.MOST),)

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        rows = state[0]
        total = np.bincount(rows[:, 0], rows[:, 2], minlength=len(q))
        before = np.cumsum(rows[:, 2])
        part, whole = Fraction(str(self.rank)).as_integer_ratio()
        # In integers: 0.07 x 100 is above 7 as a float.
        wanted = (-(-total.astype(np.int64) * part // whole)).clip(1) + (np.cumsum(total) - total)
        at = np.searchsorted(before, wanted).clip(max=max(len(rows) - 1, 0))
        if not len(rows):
            return np.full((len(q), 1), default)
        middle = Buckets.middle(rows[at, 1]) / self.scale
        return np.where(total > 0, middle, default)[:, None]


Aggregate = (
    Count | DecayedCount | SinceLast | Sum | Min | Max | Mean | StdDev | DecayedSum
    | First | Last | LastK | Distinct | TopK | ApproxDistinct | Quantile
)  # fmt: skip
SKETCHES = (ApproxDistinct, Quantile)
"""Aggregates within a bound, whose states are large."""


@lru_cache
def _linear_counts(m: int) -> np.ndarray:
    """float64[m + 1]: the estimate by how many of the registers are used (all of them: 0)."""
    return np.array([m * math.log(m / (m - used)) for used in range(m)] + [0.0])


def _table(rows: np.ndarray, n: int, k: int, default: float, scale: int) -> np.ndarray:
    """float64[n, k]: the last column of the first `k` rows of each query, in the rows' order."""
    values = np.full((n, k), default, np.float64)
    if len(rows):
        order = np.argsort(rows[:, 0], kind="stable")
        query: np.ndarray = rows[order, 0]
        rank = np.arange(len(query)) - np.searchsorted(query, query, side="left")
        mine = rank < k
        values[query[mine], rank[mine]] = rows[order, -1][mine] / scale
    return values
