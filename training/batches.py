"""Rows that need not fit into memory, and the batches that a fit takes from them."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

WINDOW = 4096
"""Rows that lie, and are read, together."""
BUFFER = 64
"""Windows that are shuffled with one another at once."""
IN_MEMORY = 2**26
"""Bytes of an array above which it lies in a file."""

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Rows:
    """Encoded rows of one split in order of query time; arrays may be maps of files."""

    ids: np.ndarray
    """int64[n, categorical]"""
    dense: np.ndarray
    """float32[n, features + numeric]"""
    labels: np.ndarray
    """float32[n], 0 or 1"""

    def take(self, at: slice | np.ndarray) -> "Rows":
        """The rows `at`."""
        return Rows(self.ids[at], self.dense[at], self.labels[at])

    def windows(self) -> Iterator["Rows"]:
        """All rows in their order, `WINDOW` at a time."""
        for at in range(0, len(self.labels), WINDOW):
            yield self.take(slice(at, at + WINDOW))


def evenly(rows: int, most: int) -> np.ndarray:
    """int64[min(rows, most)]: which of so many rows to take for `most` at even distances."""
    return np.linspace(0, rows - 1, min(rows, most)).astype(int)


def room(folder: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """An array to be filled: in memory, or above `IN_MEMORY` in a file of `folder` without a name,
    which is gone with the array."""
    if np.prod(shape, dtype=np.int64) * np.dtype(dtype).itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def kept_rows(labels: np.ndarray, rate: float, draw: tuple[int, ...]) -> np.ndarray:
    """bool[n]: every positive, and each negative with probability `rate`, by the seed `draw`."""
    drawn = np.random.default_rng(draw).random(len(labels), np.float32)
    return (labels > 0) | (drawn < rate)


class Shuffled:
    """An epoch of batches in an order drawn from `(seed, epoch)`.

    Windows come in a random order, and the rows of `BUFFER` windows at a time are shuffled with one
    another: that many are in memory. Fewer rows than that are shuffled as a whole.

    With a `rate` below 1 an epoch is several passes, each over all positives and a draw of its own
    of the negatives: as many as it takes for the rows of an epoch to be as many as there are, so
    that a sample makes no fit shorter, and an epoch sees most negatives.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        order: tuple[int, int],
        rate: float = 1.0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """`order` is (seed, epoch), `rate` the share of negatives taken; `share` (i, n) gives the
        i-th of n equal parts of every batch, for one of n devices."""
        self.rows, self.batch_size, self.order, self.rate = rows, batch_size, order, rate
        self.share = share
        self.passes = 1
        if rate < 1:
            positives, total = np.count_nonzero(rows.labels), len(rows.labels)
            self.passes = math.ceil(total / (positives + rate * (total - positives)))

    def __len__(self) -> int:
        return sum(-(-self._size(number) // self.batch_size) for number in range(self.passes))

    def __iter__(self) -> Iterator[Batch]:
        for number in range(self.passes):
            yield from self._pass(number)

    def _size(self, number: int) -> int:
        kept = self._kept(number)
        return len(self.rows.labels) if kept is None else int(kept.sum())

    def _kept(self, number: int) -> np.ndarray | None:
        if self.rate == 1:
            return None
        return kept_rows(self.rows.labels, self.rate, (*self.order, number))

    def _pass(self, number: int) -> Iterator[Batch]:
        kept = self._kept(number)
        rng = np.random.default_rng(self.order if self.rate == 1 else (*self.order, number, 1))
        starts = rng.permutation(np.arange(0, len(self.rows.labels), WINDOW))
        left: Rows | None = None
        for begin in range(0, len(starts), BUFFER):
            chosen = np.sort(starts[begin : begin + BUFFER])
            windows = [self._window(int(at), kept) for at in chosen]
            buffer = joined([left, *windows] if left else windows)
            buffer = buffer.take(rng.permutation(len(buffer.labels)))
            end = len(buffer.labels)
            if begin + BUFFER < len(starts):
                end -= end % self.batch_size
            yield from in_order(buffer.take(slice(0, end)), self.batch_size, self.share)
            left = buffer.take(slice(end, None))

    def _window(self, at: int, kept: np.ndarray | None) -> Rows:
        part = slice(at, at + WINDOW)
        window = self.rows.take(part)
        return window if kept is None else window.take(kept[part])


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts."""
    if len(parts) == 1:
        return parts[0]
    columns = ([getattr(part, name) for part in parts] for name in ("ids", "dense", "labels"))
    return Rows(*map(np.concatenate, columns))


def in_order(rows: Rows, batch_size: int, share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
    """The rows as batches of tensors that share their memory; of each, part `share` (i, n)."""
    one, devices = share
    tensors = [torch.from_numpy(array) for array in (rows.ids, rows.dense, rows.labels)]
    for at in range(0, len(rows.labels), batch_size):
        size = min(batch_size, len(rows.labels) - at)
        own = slice(at + size * one // devices, at + size * (one + 1) // devices)
        ids, dense, labels = (tensor[own] for tensor in tensors)
        yield ids, dense, labels


class InOrder:
    """The rows in order of time, a batch at a time; of each, part `share` (i, n)."""

    def __init__(self, rows: Rows, batch_size: int, share: tuple[int, int] = (0, 1)) -> None:
        self.rows, self.batch_size, self.share = rows, batch_size, share

    def __len__(self) -> int:
        return -(-len(self.rows.labels) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return in_order(self.rows, self.batch_size, self.share)
