"""Packed state: tiles of one key as rows of int64, merged and finalised by the window law.

A row is `(hop, start, accumulators…)`. An event is itself a tile, of hop 1 µs (`RAW`): rows before
the writer's as-of are folded into every hop the group's windows need, later ones wait raw and the
reader filters them by `t < q`. The same rows are the online state and the Delta tile of a day.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from data_contracts.aggregates import UFUNC
from data_contracts.features import FeatureGroup
from data_contracts.windows import Window

RAW = 1
"""Hop of an event that waits unfolded: a tile one microsecond wide."""

KEY, HOP, START, STATE = 0, 1, 2, 3
"""Columns of a row table: key index, hop (µs), start (µs), then the accumulators."""

_HEADER = struct.Struct("<B16sqqI")
_VERSION = 1


@dataclass(frozen=True)
class State:
    """What the online store holds for one key of one group."""

    seq: int
    """The last micro-batch that touched this key: the state holds its events up to this seq."""
    as_of: int
    """Events before this time (µs) are in tiles; a read at *q* < as_of is answered at as_of."""
    rows: np.ndarray
    """int64[n, 2 + accumulators]: hop, start, accumulators; sorted by hop, start."""


def raw_rows(keys: np.ndarray, times: np.ndarray, lifted: np.ndarray) -> np.ndarray:
    """Row table of single events: `keys` int64[n], `times` int64[n] µs, `lifted` int64[n, a]."""
    hop = np.full(len(keys), RAW, np.int64)
    return np.column_stack([keys, hop, times, lifted])


def merge(group: FeatureGroup, rows: np.ndarray) -> np.ndarray:
    """Sort by (key, hop, start) and merge the rows that share them."""
    if not len(rows):
        return rows
    order = np.lexsort((rows[:, START], rows[:, HOP], rows[:, KEY]))
    rows = rows[order]
    change = (rows[1:, :STATE] != rows[:-1, :STATE]).any(axis=1)
    first = np.concatenate(([0], np.flatnonzero(change) + 1))
    merged = rows[first].copy()
    for i, part in enumerate(group.accumulators):
        merged[:, STATE + i] = UFUNC[part.reduce].reduceat(rows[:, STATE + i], first)
    return merged


def fold(group: FeatureGroup, rows: np.ndarray, as_of: np.ndarray | int) -> np.ndarray:
    """Fold raw rows before `as_of` (µs, one for all or one a row) into a tile of every hop."""
    ripe = (rows[:, HOP] == RAW) & (rows[:, START] < as_of)
    tables = [rows[~ripe]]
    for hop in group.hops:
        tile = rows[ripe].copy()
        tile[:, HOP] = hop
        tile[:, START] = tile[:, START] // hop * hop
        tables.append(tile)
    return merge(group, np.concatenate(tables))


def expire(group: FeatureGroup, rows: np.ndarray, as_of: np.ndarray | int) -> np.ndarray:
    """Drop tiles that no window can reach at any *q* >= `as_of` (µs, one for all or one a row)."""
    keep = np.zeros(len(rows), dtype=bool)
    horizon = np.broadcast_to(np.asarray(as_of, np.int64), (len(rows),))
    for window in group.windows:
        lo, _ = window.bounds(horizon)
        level = (rows[:, HOP] == window.hop) | (rows[:, HOP] == RAW)
        keep |= level & (rows[:, START] >= lo)
    return rows[keep]


def window_states(
    group: FeatureGroup, rows: np.ndarray, keys: int, q: int
) -> dict[Window, np.ndarray]:
    """int64[keys, accumulators] per window at query time `q` (µs), from a row table."""
    identity = np.array([part.identity for part in group.accumulators], np.int64)
    states: dict[Window, np.ndarray] = {}
    for window in group.windows:
        lo, hi = window.bounds(q)
        level = (rows[:, HOP] == window.hop) | (rows[:, HOP] == RAW)
        seen = rows[level & (rows[:, START] >= lo) & (rows[:, START] < hi)]
        state = np.tile(identity, (keys, 1))
        for i, part in enumerate(group.accumulators):
            UFUNC[part.reduce].at(state[:, i], seen[:, KEY], seen[:, STATE + i])
        states[window] = state
    return states


def advance(
    group: FeatureGroup,
    states: Mapping[str, State],
    batch: Mapping[str, np.ndarray],
    seq: int,
    as_of: int,
) -> dict[str, State]:
    """Merge one micro-batch into the states of its keys; returns only the states that change.

    `batch` holds, per key, int64[n, 1 + accumulators]: event time and lifted accumulators. A key
    whose state already carries `seq` is skipped, so that a replayed batch changes nothing.
    """
    keys = [key for key in batch if key not in states or states[key].seq < seq]
    if not keys:
        return {}
    moment = np.array([max(as_of, states[k].as_of) if k in states else as_of for k in keys])
    tables: list[np.ndarray] = []
    for i, key in enumerate(keys):
        if key in states:
            tables.append(with_key(states[key].rows, i))
        fresh = batch[key]
        tables.append(raw_rows(np.full(len(fresh), i), fresh[:, 0], fresh[:, 1:]))
    rows = np.concatenate(tables)
    rows = fold(group, rows, moment[rows[:, KEY]])
    rows = expire(group, rows, moment[rows[:, KEY]])
    return {
        key: State(seq, int(moment[i]), part)
        for i, (key, part) in enumerate(zip(keys, split(rows, len(keys)), strict=True))
    }


def read(group: FeatureGroup, states: Iterable[State | None], q: int) -> np.ndarray:
    """float64[keys, features] at query time `q` (µs); a missing state reads as no event at all."""
    found = list(states)
    tables = [with_key(s.rows, i) for i, s in enumerate(found) if s is not None and len(s.rows)]
    width = STATE + len(group.accumulators)
    rows = np.concatenate(tables) if tables else np.empty((0, width), np.int64)
    return group.finalize(window_states(group, rows, len(found), q))


def split(rows: np.ndarray, keys: int) -> list[np.ndarray]:
    """A row table sorted by key as one `(hop, start, accumulators…)` table per key index."""
    edges = np.searchsorted(rows[:, KEY], np.arange(keys + 1))
    return [rows[edges[i] : edges[i + 1], HOP:] for i in range(keys)]


def encode(group: FeatureGroup, state: State) -> bytes:
    """The bytes of a state: version, group digest, seq, as-of, row count, little-endian int64s."""
    digest = bytes.fromhex(group.digest)
    header = _HEADER.pack(_VERSION, digest, state.seq, state.as_of, len(state.rows))
    return header + np.ascontiguousarray(state.rows, "<i8").tobytes()


def decode(group: FeatureGroup, packed: bytes) -> State:
    """The state in `packed`; ValueError when it belongs to another definition or is cut short."""
    if len(packed) < _HEADER.size:
        raise ValueError(f"state of group {group.name}: {len(packed)} bytes hold no header")
    version, digest, seq, as_of, count = _HEADER.unpack_from(packed)
    if version != _VERSION or digest.hex() != group.digest:
        raise ValueError(
            f"state of group {group.name} was written by definition {digest.hex()} (version "
            f"{version}), this reader has {group.digest}: run `headrace materialize`"
        )
    width = 2 + len(group.accumulators)
    if len(packed) != _HEADER.size + 8 * count * width:
        raise ValueError(f"state of group {group.name}: {len(packed)} bytes, {count} rows declared")
    rows = np.frombuffer(packed, "<i8", offset=_HEADER.size).reshape(count, width)
    return State(seq, as_of, rows)


def with_key(rows: np.ndarray, key: int) -> np.ndarray:
    """A key's `(hop, start, accumulators…)` table as rows of a row table under index `key`."""
    return np.column_stack([np.full(len(rows), key, np.int64), rows])
