"""Events as arrays, and the accumulators that aggregates make of them: one int64 each.

An accumulator merges by +, min or max: exact, associative and commutative, so that any grouping of
the same events ends in the same bits.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, cast

import numpy as np

Reduce = Literal["add", "min", "max"]
Nulls = Literal["skip", "zero"]
Where = tuple[str, ...] | Mapping[str, tuple[str, ...]]
"""Event types, or fields with the values that match; several fields must all match. Lists and sets
are taken too, and kept as sorted tuples."""

Conditions = tuple[tuple[str, tuple[str, ...]], ...]

UFUNC: dict[Reduce, np.ufunc] = {"add": np.add, "min": np.minimum, "max": np.maximum}
IDENTITY: dict[Reduce, int] = {
    "add": 0,
    "min": np.iinfo(np.int64).max,
    "max": np.iinfo(np.int64).min,
}
EXACT = 2**53
"""Values and sums stay below this, so that they are exact as float64 too."""

TIME = "event_time"


@dataclass(frozen=True)
class Events:
    """n events as arrays."""

    time: np.ndarray
    """int64[n] µs."""
    tie: np.ndarray
    """int64[n]: `code` of the event_id, which orders events of one time."""
    text: Mapping[str, np.ndarray]
    """object[n], None = null: `event_type` and the fields that a `where` names."""
    number: Mapping[str, np.ndarray]
    """float64[n], NaN = null: number fields; a string field's value is its `code`."""

    def __len__(self) -> int:
        return len(self.time)

    def take(self, at: np.ndarray) -> "Events":
        """The events `at` (indices or a mask)."""
        text = {name: column[at] for name, column in self.text.items()}
        number = {name: column[at] for name, column in self.number.items()}
        return Events(self.time[at], self.tie[at], text, number)


@lru_cache(maxsize=1_000_000)
def code(text: str) -> int:
    """A string's value: 53 bits of BLAKE2b, the same in every process, exact as float64."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 11


def normal(where: Where) -> Where:
    """A declared `where` in its one form: sorted tuples without repetition, event types alone as
    such; ValueError for what is no list of strings."""
    named = _named(where)
    for name, listed in named.items():
        values = cast(Sequence[object], listed)
        plural = isinstance(values, tuple | list | set | frozenset)
        if not plural or not values or not all(isinstance(value, str) for value in values):
            raise ValueError(f"where: {name} {listed!r}: list at least one string, as ('click',)")
    form = {name: tuple(sorted(set(named[name]))) for name in sorted(named)}
    return form["event_type"] if {*form} == {"event_type"} else form or ()


def conditions(where: Where) -> Conditions:
    """A `where` as fields with the values that match."""
    return tuple(_named(where).items())


def _named(where: Where) -> Mapping[str, tuple[str, ...]]:
    return where if isinstance(where, Mapping) else {"event_type": where} if where else {}


@dataclass(frozen=True)
class Source:
    """Which events count, and the fixed-point value each brings (`scale` units make 1)."""

    field: str | None = None
    """None: every matching event brings 1."""
    where: Conditions = ()
    scale: int = 1
    nulls: Nulls = "skip"

    def matches(self, events: Events) -> np.ndarray:
        """bool[n]: whether an event counts."""
        match = np.ones(len(events), dtype=bool)
        for name, values in self.where:
            wanted = frozenset(values)
            match &= np.fromiter((v in wanted for v in events.text[name]), bool, len(events))
        if self.field not in (None, TIME) and self.nulls == "skip":
            match &= ~np.isnan(events.number[self.field])
        return match

    def values(self, events: Events) -> np.ndarray:
        """int64[n]: fixed-point values, 0 where null; OverflowError from 2^53 on."""
        if self.field is None:
            return np.ones(len(events), np.int64)
        if self.field == TIME:
            return events.time
        value = events.number[self.field]
        fixed = np.rint(np.where(np.isnan(value), 0.0, value) * self.scale)
        if len(fixed) and np.abs(fixed).max() >= EXACT:
            raise OverflowError(
                f"{self.field}: |value| x {self.scale} reaches 2^53: lower the scale"
            )
        return fixed.astype(np.int64)


@dataclass(frozen=True)
class Accumulator:
    """One int64 of state: the values of `source` (or their squares, or how many) reduced."""

    reduce: Reduce
    source: Source
    of: Literal["count", "value", "square"] = "value"

    @property
    def identity(self) -> int:
        """The value that changes nothing when merged."""
        return IDENTITY[self.reduce]

    def lift(self, events: Events) -> np.ndarray:
        """int64[n]: what each event alone contributes (the identity where it does not match)."""
        match = self.source.matches(events)
        if self.of == "count":
            return match.astype(np.int64)
        values = self.source.values(events)
        return np.where(match, values * values if self.of == "square" else values, self.identity)


@dataclass(frozen=True)
class Decayed:
    """An additive accumulator read with weights that halve every `half_life` µs of tile age."""

    base: Accumulator
    half_life: int

    SCALE: ClassVar[int] = 2**16
    """Fixed-point one of a weight."""

    @property
    def identity(self) -> int:
        return 0

    def weights(self, hop: int, tiles: int) -> np.ndarray:
        """int64[tiles]: the weight of a tile by its age in hops, the one under way first."""
        ages = range(tiles)
        return np.array([round(self.SCALE * 2.0 ** (-age * hop / self.half_life)) for age in ages])
