"""Model inputs: rows of fields and features as the two arrays every bundle's graph takes.

`ids` int64[n, categorical] by stable hashing, `dense` float32[n, numeric]; numeric transforms are
not here but inside the graph. Training and serving both call this.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from data_contracts.clock import DAY, HOUR

_SHORT = 256
"""Characters of a value whose id is remembered: whoever sends longer ones fills no memory."""
MISSING = 0
"""The id of a null value."""


@dataclass(frozen=True)
class Categorical:
    """A field looked up in an embedding of `buckets` rows; row 0 stands for null.

    The field `hour_of_day` is derived from the query time.
    """

    field: str
    buckets: int
    min_count: int = 1
    """Ids that fewer training rows hold share the row out of vocabulary, inside the graph."""
    dim: int | None = None
    """Width of its embedding, where not by the rule in `training/models/inputs.py`."""


@dataclass(frozen=True)
class Numeric:
    """A number of the request or candidate that goes into `dense`, with its declared default."""

    field: str
    default: float


HOUR_OF_DAY = "hour_of_day"


def bucket(field: str, value: str, buckets: int) -> int:
    """The id of `value` in 1 … buckets-1: the same in every process, machine and version."""
    return (_kept if len(value) <= _SHORT else _bucket)(field, value, buckets)


def _bucket(field: str, value: str, buckets: int) -> int:
    digest = hashlib.blake2b(f"{field}={value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % (buckets - 1) + 1


_kept = lru_cache(maxsize=200_000)(_bucket)


def encode_ids(
    categorical: Sequence[Categorical], rows: Sequence[Mapping[str, Any]], q: Sequence[int]
) -> np.ndarray:
    """int64[rows, categorical]; `q` holds the query time (µs) of each row."""
    ids = np.full((len(rows), len(categorical)), MISSING, np.int64)
    for j, column in enumerate(categorical):
        for i, row in enumerate(rows):
            if column.field == HOUR_OF_DAY:
                ids[i, j] = q[i] % DAY // HOUR + 1
            elif (value := row.get(column.field)) is not None:
                ids[i, j] = bucket(column.field, str(value), column.buckets)
    return ids


def encode_dense(
    numeric: Sequence[Numeric], rows: Sequence[Mapping[str, Any]], features: np.ndarray
) -> np.ndarray:
    """float32[rows, features + numeric]: the features in their declared order, then the fields."""
    fields = np.empty((len(rows), len(numeric)), np.float64)
    for j, column in enumerate(numeric):
        for i, row in enumerate(rows):
            value = row.get(column.field)
            fields[i, j] = column.default if value is None else float(value)
    return np.concatenate([features, fields], axis=1).astype(np.float32)
