"""What every aggregate of a feature group is made of: filter, field, table of values."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_contracts.accumulators import Nulls, Source, Where, conditions, normal

State = Sequence[np.ndarray]
"""Per part of an aggregate: int64[n] of an accumulator, or int64[m, 1 + width] rows of entries
sorted by (query, identity), the query's index first."""


class Filtered:
    """Keeps its `where` in one form, so that one meaning has one digest."""

    where: Where

    def __post_init__(self) -> None:
        with suppress(ValueError):  # `check_group` refuses it, naming its group
            object.__setattr__(self, "where", normal(self.where))


@dataclass(frozen=True)
class OfField(Filtered):
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


@dataclass(frozen=True)
class Ranked(OfField):
    """The `k` most frequent values of a field, `_1` the first, each with its `_count`; ties go to
    the smaller value."""

    k: int = 1
    strings: ClassVar[bool] = True

    @property
    def outputs(self) -> tuple[str, ...]:
        ranks = range(1, self.k + 1)
        return (*(f"_{i}" for i in ranks), *(f"_{i}_count" for i in ranks))

    def ranked(self, counts: np.ndarray, n: int, default: float) -> tuple[np.ndarray, np.ndarray]:
        """float64[n, k] values and float64[n, k] counts of int64[m, 3] (query, value, count)."""
        rows = counts[np.lexsort((counts[:, 1], -counts[:, 2], counts[:, 0]))]
        values = table(rows[:, :2], n, self.k, default, self.scale)
        return values, table(rows, n, self.k, 0.0, 1)


def table(rows: np.ndarray, n: int, k: int, default: float, scale: int) -> np.ndarray:
    """float64[n, k]: the last column of the first `k` rows of each query, in the rows' order."""
    values = np.full((n, k), default, np.float64)
    if len(rows):
        order = np.argsort(rows[:, 0], kind="stable")
        query: np.ndarray = rows[order, 0]
        rank = np.arange(len(query)) - np.searchsorted(query, query, side="left")
        mine = rank < k
        values[query[mine], rank[mine]] = rows[order, -1][mine] / scale
    return values
