"""Aggregates within a bound, whose states are large: they have a view of their own."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import ClassVar

import numpy as np

from data_contracts.accumulators import Accumulator
from data_contracts.aggregate import OfField, Ranked, State
from data_contracts.entries import Buckets, Part, Registers, Sampled


@dataclass(frozen=True)
class FrequentItems(Ranked):
    """The `k` most frequent values of a field among however many, `_1` the first, each with its
    `_count`, estimated from a uniform sample of `sample` of the window's events.

    A value that makes up a share p of them is counted with a standard error of at most
    sqrt(p (1 - p) / sample) of all. Exact while the window holds at most `sample` events; the
    sample, and so the answer, is the same in every engine and order.
    """

    sample: int = 64

    @property
    def parts(self) -> tuple[Part, ...]:
        count = Accumulator("add", self.source, "count")
        return (count, Sampled(self.source, self.sample))

    def finalize(self, state: State, q: np.ndarray, default: float) -> np.ndarray:
        total, drawn = state
        pairs = drawn[np.lexsort((drawn[:, 2], drawn[:, 0]))][:, [0, 2]]
        first = np.flatnonzero(np.diff(pairs, axis=0, prepend=pairs[:1] - 1).any(axis=1))
        counts = np.column_stack([pairs[first], np.diff(np.append(first, len(pairs)))])
        values, sampled = self.ranked(counts, len(q), default)
        size = np.bincount(drawn[:, 0], minlength=len(q)).clip(1)
        return np.column_stack([values, sampled * total[:, None] / size[:, None]])


@dataclass(frozen=True)
class ApproxDistinct(OfField):
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
class Quantile(OfField):
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


SKETCHES = (ApproxDistinct, FrequentItems, Quantile)


@lru_cache
def _linear_counts(m: int) -> np.ndarray:
    """float64[m + 1]: the estimate by how many of the registers are used (all of them: 0)."""
    return np.array([m * math.log(m / (m - used)) for used in range(m)] + [0.0])
