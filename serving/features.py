"""The reader of the online store: packed state by key, finalised at the query time."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_contracts.features import FeatureGroup
from data_contracts.keys import key_of
from data_contracts.lake import Lake
from data_contracts.states import finalized, unpack
from data_contracts.use_case import UseCase
from data_contracts.views import ViewRegistry, reading
from serving.batcher import Batcher
from serving.online import StateReader

_log = logging.getLogger(__name__)

NO_STATE = 0
"""The seq of a key without state."""
MAX_ROWS = 512
"""Rows that are read at once; a larger request is a read of its own."""

Keys = Sequence[Mapping[str, str | int | None]]
"""Per row: entity field -> value; None where the row has none."""

_Asked = tuple[Keys, int]
"""Keys of a request's rows, and its query time (µs)."""


_Packed = Callable[[FeatureGroup, Sequence[str]], Mapping[str, bytes]]
"""Group and keys -> their packed states."""


@dataclass(frozen=True)
class Served:
    """The features of one request's rows, all at one query time."""

    values: np.ndarray
    """float64[rows, features] in the model's order."""
    seqs: np.ndarray
    """int64[rows, views]: the seq stamped on the state that was read, 0 where none was."""
    as_ofs: list[list[int | None]]
    """Per row and view: the state's as-of (µs), None where there was none."""
    q: int
    """The query time (µs): the one asked for, or the newest as-of read where that is later."""
    store_failed: bool
    """The store could not be read, or not in time: every value is the declared default."""

    @property
    def defaults_used(self) -> bool:
        """Whether any value is a declared default because there was no state to read."""
        return bool((self.seqs == NO_STATE).any())


class FeatureReader:
    """Reads the features of one model (name -> digest) from the views that hold them.

    `failures` counts reads that ended in defaults. ValueError where no view has a feature ready.
    """

    def __init__(self, use_case: UseCase, lake: Lake, features: Mapping[str, str]) -> None:
        if not (lake.online / "feature_store.yaml").is_file():
            raise ValueError(
                f"{lake.online}: no Feast repository: run `headrace materialize` first"
            )
        self._use_case = use_case
        self.reading = reading(features, ViewRegistry(lake).views().values())
        self._source = StateReader(lake, use_case.contract.fields)
        self._batcher = Batcher[_Asked, Served]("features", self.read_all, _many, MAX_ROWS)
        self.failures = 0

    async def read(self, keys: Keys, q: int, deadline: float) -> Served:
        """The features of the rows with these keys at `q` (µs); a failing store gives defaults.

        TimeoutError when `deadline` (monotonic, s) passed before its turn.
        """
        return (await self._batcher.ask((keys, q), deadline)).answer

    async def within(self, keys: Keys, q: int, until: float, here: bool = False) -> Served:
        """As `read`, with the declared defaults in place of what is not there `until` then (s, on
        the monotonic clock), at once while the store owes a read for longer than this may wait.

        `here`: in this thread, if all states are kept and reading is `Batcher.free`.
        """
        if here and self._batcher.free:
            # Whatever it raises, NotKept or not, is for the read in the thread to answer for.
            with contextlib.suppress(Exception):
                return self._read([(keys, q)], self._source.kept)[0]
        left = until - time.monotonic()
        try:
            if self._batcher.owes_for() > left:
                raise TimeoutError
            async with asyncio.timeout(left):
                return await self.read(keys, q, until)
        except TimeoutError:
            self.failures += 1
            return self._defaults(len(keys), q)

    def read_now(self, keys: Keys, q: int) -> Served:
        """As `read`, in the caller's thread."""
        return self.read_all([(keys, q)])[0]

    def read_all(self, asks: Sequence[_Asked]) -> list[Served]:
        """As `read_now` for each request, by one read; what one has does not show in another."""
        try:
            return self._read(asks, self._source.packed)
        except Exception as error:
            if isinstance(error, ValueError) and len(asks) > 1:
                # A state that cannot be read costs only the requests that need it.
                return [self.read_now(*asked) for asked in asks]
            # Whatever the store or its client raises, the answer is the declared defaults.
            self.failures += len(asks)
            _log.exception("online store of %s: serving defaults", self._use_case.name)
            return [self._defaults(len(keys), q) for keys, q in asks]

    async def close(self) -> None:
        """Wait for the read under way."""
        await self._batcher.close()

    def _read(self, asks: Sequence[_Asked], packed: _Packed) -> list[Served]:
        rows = [(number, row) for number, (keys, _) in enumerate(asks) for row in keys]
        found = [
            _Found(group, [(i, key_of(group.key_fields, row)) for i, row in rows], packed)
            for group in self.reading.groups
        ]
        q = np.array([q for _, q in asks], np.int64)
        for group in found:
            group.latest(q)
        values = self.reading.vector([group.values(q) for group in found])
        seqs = np.stack([group.seqs for group in found], axis=1)
        as_ofs = [list(row) for row in zip(*(group.as_ofs for group in found), strict=True)]
        served: list[Served] = []
        end = 0
        for (keys, _), at in zip(asks, q.tolist(), strict=True):
            own = slice(end, end := end + len(keys))
            served.append(Served(values[own], seqs[own], as_ofs[own], at, store_failed=False))
        return served

    def _defaults(self, rows: int, q: int) -> Served:
        groups = self.reading.groups
        values = self.reading.vector([group.default_values()[None] for group in groups])
        seqs = np.full((rows, len(groups)), NO_STATE, np.int64)
        nothing: list[list[int | None]] = [[None] * len(groups) for _ in range(rows)]
        return Served(np.tile(values, (rows, 1)), seqs, nothing, q, store_failed=True)


def _many(asked: _Asked) -> int:
    return len(asked[0])


class _Found:
    """The states of one group that the rows of some requests read: each distinct key once from the
    store, and once a request as a state, since each request has its own query time."""

    def __init__(
        self, group: FeatureGroup, wanted: Sequence[tuple[int, str | None]], packed: _Packed
    ) -> None:
        index = {pair: i for i, pair in enumerate(dict.fromkeys(wanted))}
        known = list(dict.fromkeys(key for _, key in index if key is not None))
        states = packed(group, known)
        held = [
            (i, states[key]) for (_, key), i in index.items() if key is not None and states[key]
        ]
        at = np.array([i for i, _ in held], np.int64)
        self._states = unpack(group, [state for _, state in held], at)
        self._group = group
        self._request = np.array([number for number, _ in index], np.int64)
        self._at = at
        self._rows = [index[pair] for pair in wanted]
        seqs = np.full(len(index), NO_STATE, np.int64)
        seqs[at] = self._states.seqs
        self.seqs = seqs[self._rows]
        """int64[rows]: the seq of the state that each row reads."""
        stamps = dict(zip(at.tolist(), self._states.as_ofs.tolist(), strict=True))
        self.as_ofs = [stamps.get(i) for i in self._rows]
        """Per row: the as-of (µs) of that state, None where there is none."""

    def latest(self, q: np.ndarray) -> None:
        """Raise each request's query time (`q` int64[requests] µs) to the newest as-of it reads."""
        np.maximum.at(q, self._request[self._at], self._states.as_ofs)

    def values(self, q: np.ndarray) -> np.ndarray:
        """float64[rows, features of the group] at the query time of each request."""
        return finalized(self._group, self._states.rows, q[self._request])[self._rows]
