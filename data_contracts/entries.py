"""Entries: bounded tables of int64 rows that an aggregate keeps beside a tile's accumulators.

They merge by their identity and keep a fixed number, the first or the last in a total order:
associative and commutative too.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_contracts.accumulators import Accumulator, Decayed, Events, Reduce, Source


@dataclass(frozen=True)
class Entries(ABC):
    """A table of int64 rows per tile: `identity` leading columns name and order an entry."""

    source: Source
    keep: int
    """How many entries a tile and a window keep."""

    identity: ClassVar[int] = 1
    reduce: ClassVar[Reduce | None] = None
    newest: ClassVar[bool] = False
    """Keeps the last entries in order instead of the first."""
    by_tie: ClassVar[bool] = False
    """Needs the tie of every event, also of one whose time no other shares."""

    @property
    def width(self) -> int:
        """Columns of a row."""
        return self.identity + (self.reduce is not None)

    def lift(self, events: Events) -> tuple[np.ndarray, np.ndarray]:
        """int64[m] which events match, and int64[m, width] the entry of each."""
        at = np.flatnonzero(self.source.matches(events))
        return at, self.rows(events, self.source.values(events), at)

    @abstractmethod
    def rows(self, events: Events, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        """int64[m, width]: the entries of the events `at`."""


class Ordered(Entries):
    """(time, tie, value): the events themselves, in their total order; the first of them."""

    identity = 3

    def rows(self, events: Events, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.column_stack([events.time[at], events.tie[at], values[at]])


class Newest(Ordered):
    """(time, tie, value): the last events."""

    newest = True


class Sampled(Entries):
    """(tie, value) of the `keep` events of the smallest ties, which are codes of their ids.

    A uniform sample of the events, the same however they came (bottom-k; Cohen, Kaplan 2007).
    """

    identity = 2
    by_tie = True

    def rows(self, events: Events, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.column_stack([events.tie[at], values[at]])


class Counts(Entries):
    """(value, count) of the `keep` smallest distinct values: all of them up to the cap."""

    reduce = "add"

    def rows(self, events: Events, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.column_stack([values[at], np.ones(len(at), np.int64)])


class Registers(Entries):
    """(register, rank) of HyperLogLog over a mixed 64-bit value; `keep` registers, a power of 2."""

    reduce = "max"

    def rows(self, events: Events, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        bits = self.keep.bit_length() - 1
        mixed = _mix(values[at])
        rest = mixed >> np.uint64(bits)
        # The position of the highest set bit from above, by the exponents of two exact halves.
        high, low = rest >> np.uint64(32), rest & np.uint64(0xFFFFFFFF)
        length = np.where(high > 0, np.frexp(high.astype(float))[1] + 32,
                          np.frexp(low.astype(float))[1])  # fmt: skip
        register = (mixed & np.uint64(self.keep - 1)).astype(np.int64)
        return np.column_stack([register, (64 - bits) - length + 1])


class Buckets(Entries):
    """(bucket, count) of a log-linear histogram as in HdrHistogram: integers all the way.

    A value below 2^(`BITS` + 1) units has its own bucket; the middle of a larger one's bucket is
    within 2^-(`BITS` + 1) of it.
    """

    reduce = "add"
    BITS: ClassVar[int] = 6
    MOST: ClassVar[int] = 2 * (54 - BITS) * 2**BITS - 1
    """Buckets of all values below 2^53 units: those of one sign, the other, and zero's."""

    def rows(self, events: Events, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        size = np.abs(values[at])
        shift = np.maximum(np.frexp(size.astype(float))[1].astype(np.int64) - (self.BITS + 1), 0)
        bucket = (shift << self.BITS) + (size >> shift)
        signed = np.where(values[at] < 0, -bucket, bucket)
        return np.column_stack([signed, np.ones(len(at), np.int64)])

    @classmethod
    def middle(cls, bucket: np.ndarray) -> np.ndarray:
        """float64[n]: the middle of a bucket's values, in units."""
        size = np.abs(bucket)
        shift = np.maximum((size >> cls.BITS) - 1, 0)
        low = (size - (shift << cls.BITS)) << shift
        return np.sign(bucket) * (low + ((np.int64(1) << shift) - 1) / 2)


Part = Accumulator | Decayed | Entries
"""What an aggregate reads of a window."""


def _mix(values: np.ndarray) -> np.ndarray:
    """uint64[n]: the finaliser of SplitMix64 (Steele, Lea, Flood 2014), a bijection."""
    x = values.astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
