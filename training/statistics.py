"""What models are built from: counts and moments of the training rows, a batch at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_contracts.encoding import Categorical


@dataclass(frozen=True)
class Seen:
    """What the training rows hold; dense inputs are squashed by asinh before their moments."""

    counts: tuple[np.ndarray, ...]
    """int64[buckets] of each categorical column: how many rows hold each id."""
    mean: np.ndarray
    """float64[D]"""
    deviation: np.ndarray
    """float64[D]"""
    largest: np.ndarray
    """float64[D]: the largest magnitude."""
    positives: float
    rows: int
    item: tuple[int, ...] = ()
    """Dense columns on the item's side."""

    @property
    def base_rate(self) -> float:
        """The share of positives, half a row added to each side so that it is never 0 or 1."""
        return (self.positives + 0.5) / (self.rows + 1)

    def sampled(self, rate: float) -> "Seen":
        """The same where only `rate` of the negatives are taken, as far as the base rate goes."""
        rows = round(self.positives + rate * (self.rows - self.positives))
        return replace(self, rows=rows)


def observe(
    categorical: Sequence[Categorical],
    batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    item: tuple[int, ...] = (),
) -> Seen:
    """`Seen` of batches `(ids int64[b, C], dense float32[b, D], labels float32[b])`, of which there
    must be one; moments are merged as Chan et al. (1983) do."""
    counts = tuple(np.zeros(column.buckets, np.int64) for column in categorical)
    rows, positives = 0, 0.0
    mean, scatter, largest = (np.zeros(0) for _ in range(3))
    for ids, dense, labels in batches:
        for j, column in enumerate(counts):
            column += np.bincount(ids[:, j], minlength=len(column))
        squashed = np.arcsinh(dense.astype(np.float64))
        if not rows:
            mean, scatter, largest = (np.zeros(dense.shape[1]) for _ in range(3))
        largest = np.maximum(largest, np.abs(squashed).max(axis=0))
        new, total = len(dense), rows + len(dense)
        shift = squashed.mean(axis=0) - mean
        scatter = scatter + squashed.var(axis=0) * new + shift**2 * (rows * new / total)
        mean = mean + shift * (new / total)
        rows, positives = total, positives + float(labels.sum())
    return Seen(counts, mean, np.sqrt(scatter / rows), largest, positives, rows, item)
