"""The aggregate algebra: `lift` an event to accumulators, merge them, `finalize` to a value.

Every accumulator is one int64 that merges by +, min or max, so merging is exact, associative and
commutative, and any grouping of the same events ends in the same bits. `finalize` exists here only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

Columns = Mapping[str, np.ndarray]
"""Events as arrays of one length: `event_type` (object), number fields (float64, NaN = null)."""

Reduce = Literal["add", "min", "max"]

UFUNC: dict[Reduce, np.ufunc] = {"add": np.add, "min": np.minimum, "max": np.maximum}
IDENTITY: dict[Reduce, int] = {
    "add": 0,
    "min": np.iinfo(np.int64).max,
    "max": np.iinfo(np.int64).min,
}
EXACT = 2**53
"""Sums stay below this, so that they are exact as float64 too."""


@dataclass(frozen=True)
class Accumulator:
    """One int64 of state. `field=None` counts matching events; else it holds fixed-point values."""

    reduce: Reduce
    field: str | None
    where: tuple[str, ...]
    scale: int
    counts: bool

    @property
    def identity(self) -> int:
        """The value that changes nothing when merged."""
        return IDENTITY[self.reduce]

    def lift(self, events: Columns) -> np.ndarray:
        """int64[n]: what each event alone contributes (the identity where it does not match)."""
        match = np.ones(len(events["event_type"]), dtype=bool)
        if self.where:
            match = np.isin(events["event_type"].astype(str), self.where)
        if self.field is None:
            return match.astype(np.int64)
        value = events[self.field]
        match = match & ~np.isnan(value)
        if self.counts:
            return match.astype(np.int64)
        fixed = np.rint(np.where(match, value, 0.0) * self.scale)
        if len(fixed) and np.abs(fixed).max() >= EXACT:
            raise OverflowError(
                f"{self.field}: |value| x {self.scale} reaches 2^53: lower the scale"
            )
        return np.where(match, fixed.astype(np.int64), self.identity)


@dataclass(frozen=True)
class Count:
    """Number of events of the types `where` (all types when empty)."""

    where: tuple[str, ...] = ()

    @property
    def accumulators(self) -> tuple[Accumulator, ...]:
        return (Accumulator("add", None, self.where, 1, True),)

    def finalize(self, state: Sequence[np.ndarray], default: float) -> np.ndarray:
        return state[0].astype(np.float64)


@dataclass(frozen=True)
class _OfField:
    """An aggregate of the non-null fixed-point values of one field; `scale` units make 1."""

    field: str
    where: tuple[str, ...] = ()
    scale: int = 1
    reduce: ClassVar[Reduce] = "add"

    @property
    def accumulators(self) -> tuple[Accumulator, ...]:
        return (
            Accumulator("add", self.field, self.where, 1, True),
            Accumulator(self.reduce, self.field, self.where, self.scale, False),
        )

    def finalize(self, state: Sequence[np.ndarray], default: float) -> np.ndarray:
        return np.where(state[0] > 0, state[1] / self.scale, default)


class Sum(_OfField):
    """Sum of a field (scale 100 for cents); the group's default where nothing was seen."""


class Min(_OfField):
    """Smallest value of a field; the group's default where nothing was seen."""

    reduce = "min"


class Max(_OfField):
    """Largest value of a field; the group's default where nothing was seen."""

    reduce = "max"


class Mean(_OfField):
    """Mean of a field; the group's default where nothing was seen."""

    def finalize(self, state: Sequence[np.ndarray], default: float) -> np.ndarray:
        mean = state[1] / self.scale / np.maximum(state[0], 1)
        return np.where(state[0] > 0, mean, default)


Aggregate = Count | Sum | Mean | Min | Max


@dataclass(frozen=True)
class Rate:
    """A smoothed ratio of two counts of the group: (num + prior x strength) / (den + strength)."""

    numerator: str
    denominator: str
    prior: float
    strength: float

    def finalize(self, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        return (numerator + self.prior * self.strength) / (denominator + self.strength)
