"""Rows that need not fit into memory, and the batches that a fit takes from them."""

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


def room(folder: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """An array to be filled: in memory, or above `IN_MEMORY` in a file of `folder` without a name,
    which is gone with the array."""
    if np.prod(shape, dtype=np.int64) * np.dtype(dtype).itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def kept_rows(labels: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """bool[n]: every positive, and each negative with probability `rate`."""
    drawn = np.random.default_rng(seed).random(len(labels), np.float32)
    return (labels > 0) | (drawn < rate)


class Shuffled:
    """An epoch of batches in an order drawn from `(seed, epoch)`.

    Windows come in a random order, and the rows of `BUFFER` windows at a time are shuffled with one
    another: that many are in memory. Fewer rows than that are shuffled as a whole.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        order: tuple[int, int],
        kept: np.ndarray | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """`order` is (seed, epoch), `kept` bool[n] what is taken; `share` (i, n) takes the i-th of
        each n batches, for one of n devices."""
        self.rows, self.batch_size, self.order, self.kept = rows, batch_size, order, kept
        self.share = share

    def __len__(self) -> int:
        rows = len(self.rows.labels) if self.kept is None else int(self.kept.sum())
        batches = -(-rows // self.batch_size)
        _, devices = self.share
        return batches if devices == 1 else batches // devices

    def __iter__(self) -> Iterator[Batch]:
        one, devices = self.share
        for number, batch in zip(range(len(self) * devices), self._batches(), strict=False):
            if number % devices == one:
                yield batch

    def _batches(self) -> Iterator[Batch]:
        rng = np.random.default_rng(self.order)
        total = len(self.rows.labels)
        starts = rng.permutation(np.arange(0, total, WINDOW))
        left: Rows | None = None
        for begin in range(0, len(starts), BUFFER):
            windows = [self._window(at) for at in np.sort(starts[begin : begin + BUFFER])]
            buffer = joined([left, *windows] if left else windows)
            buffer = buffer.take(rng.permutation(len(buffer.labels)))
            end = len(buffer.labels)
            if begin + BUFFER < len(starts):
                end -= end % self.batch_size
            yield from in_order(buffer.take(slice(0, end)), self.batch_size)
            left = buffer.take(slice(end, None))

    def _window(self, at: int) -> Rows:
        part = slice(at, at + WINDOW)
        window = self.rows.take(part)
        return window if self.kept is None else window.take(self.kept[part])


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts."""
    if len(parts) == 1:
        return parts[0]
    columns = ([getattr(part, name) for part in parts] for name in ("ids", "dense", "labels"))
    return Rows(*map(np.concatenate, columns))


def in_order(rows: Rows, batch_size: int) -> Iterator[Batch]:
    """The rows as batches of tensors that share their memory."""
    tensors = [torch.from_numpy(array) for array in (rows.ids, rows.dense, rows.labels)]
    for at in range(0, len(rows.labels), batch_size):
        ids, dense, labels = (tensor[at : at + batch_size] for tensor in tensors)
        yield ids, dense, labels


class InOrder:
    """The rows in order of time, a batch at a time."""

    def __init__(self, rows: Rows, batch_size: int) -> None:
        self.rows, self.batch_size = rows, batch_size

    def __len__(self) -> int:
        return -(-len(self.rows.labels) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return in_order(self.rows, self.batch_size)
