"""The state of a key: what the online store and the Delta tile of a day hold, packed to bytes."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from data_contracts.features import FeatureGroup
from data_contracts.tiles import (
    KEY,
    LEVEL,
    START,
    STATE,
    Rows,
    concat,
    expire,
    fold,
    no_rows,
    where,
    window_states,
)

_HEADER = struct.Struct("<B16sqqI")
_VERSION = 2


@dataclass(frozen=True)
class State:
    """What the online store holds for one key of one group."""

    seq: int
    """The last micro-batch that touched this key: the state holds its events up to this seq."""
    as_of: int
    """Events before this time (µs) are in tiles; a read at *q* < as_of is answered at as_of."""
    rows: Rows
    """Merged tables whose key column counts for nothing."""


def advance(
    group: FeatureGroup,
    states: Mapping[str, State],
    keys: Sequence[str],
    fresh: Rows,
    seq: int,
    as_of: int,
) -> dict[str, State]:
    """Merge one micro-batch into the states of its keys; returns only the states that change.

    `fresh` holds the batch's events (`tiles.raw_rows`) by index into `keys`. A key whose state
    already carries `seq` is skipped, so that a replayed batch changes nothing.
    """
    moves = np.array([k not in states or states[k].seq < seq for k in keys], dtype=bool)
    if not moves.any():
        return {}
    moments = np.array([max(as_of, states[k].as_of) if k in states else as_of for k in keys])
    parts = [where(fresh, [moves[table[:, KEY]] for table in fresh.tables])]
    parts += [
        of_key(states[key].rows, i) for i, key in enumerate(keys) if moves[i] and key in states
    ]
    rows = fold(group, concat(parts), moments)
    rows = expire(group, rows, moments)
    split_ = split(rows, len(keys))
    return {k: State(seq, int(moments[i]), split_[i]) for i, k in enumerate(keys) if moves[i]}


def read(group: FeatureGroup, states: Iterable[State | None], q: int) -> np.ndarray:
    """float64[keys, features] at query time `q` (µs); a missing state reads as no event at all."""
    found = list(states)
    held = [of_key(s.rows, i) for i, s in enumerate(found) if s is not None]
    rows = concat([no_rows(group), *held])
    return finalized(group, rows, np.full(len(found), q, np.int64))


def finalized(group: FeatureGroup, rows: Rows, q: np.ndarray) -> np.ndarray:
    """float64[keys, features] of each key at its `q` (int64[keys] µs) from merged rows; a key
    without rows has no event."""
    return group.finalize(window_states(group, rows, q), q)


def idle_keys(group: FeatureGroup, states: Mapping[str, State], as_of: int) -> list[str]:
    """The keys whose states read as no event at all, at every query time from `as_of` (µs) on."""
    rows = concat([no_rows(group), *(of_key(s.rows, i) for i, s in enumerate(states.values()))])
    reached = expire(group, rows, np.full(len(states), as_of, np.int64))
    living = {int(key) for table in reached.tables for key in table[:, KEY]}
    return [key for i, key in enumerate(states) if i not in living]


def of_key(rows: Rows, key: int) -> Rows:
    """The rows of a single key under the index `key`."""
    tables: list[np.ndarray] = []
    for table in rows.tables:
        own = table.copy()
        own[:, KEY] = key
        tables.append(own)
    return Rows(tables[0], tuple(tables[1:]))


def split(rows: Rows, keys: int) -> list[Rows]:
    """Merged rows of `keys` keys as those of each."""
    cut: list[list[np.ndarray]] = []
    for table in rows.tables:
        edges = np.searchsorted(table[:, KEY], np.arange(keys + 1))
        cut.append([table[edges[i] : edges[i + 1]] for i in range(keys)])
    return [Rows(tables[0], tuple(tables[1:])) for tables in zip(*cut, strict=True)]


def encode(group: FeatureGroup, state: State) -> bytes:
    """The bytes of a state: version, group digest, seq, as-of, counts, little-endian int64s.

    An entry carries the index of its tile instead of level and start.
    """
    tables = state.rows.tables
    digest = bytes.fromhex(group.digest)
    parts = [_HEADER.pack(_VERSION, digest, state.seq, state.as_of, len(tables[0]))]
    parts += [struct.pack("<I", len(table)) for table in tables[1:]]
    parts.append(np.ascontiguousarray(tables[0][:, LEVEL:], "<i8").tobytes())
    for table in tables[1:]:
        parts.append(tile_index(tables[0], table).astype("<i4").tobytes())
        parts.append(np.ascontiguousarray(table[:, STATE:], "<i8").tobytes())
    return b"".join(parts)


@dataclass(frozen=True)
class Unpacked:
    """The states of several keys as one table."""

    seqs: np.ndarray
    """int64[states]."""
    as_ofs: np.ndarray
    """int64[states] µs."""
    rows: Rows
    """Merged tables, the states one after the other."""


def decode(group: FeatureGroup, packed: bytes) -> State:
    """The state in `packed`; ValueError when it belongs to another definition or is cut short."""
    found = unpack(group, [packed], np.zeros(1, np.int64))
    return State(int(found.seqs[0]), int(found.as_ofs[0]), found.rows)


def decode_all(group: FeatureGroup, packed: Mapping[str, bytes]) -> dict[str, State]:
    """As `decode`, for the states of many keys."""
    found = unpack(group, list(packed.values()), np.arange(len(packed)))
    parts = split(found.rows, len(packed))
    for table in found.rows.tables:
        table[:, KEY] = 0
    stamps = zip(found.seqs.tolist(), found.as_ofs.tolist(), strict=True)
    return {
        key: State(seq, as_of, rows)
        for key, (seq, as_of), rows in zip(packed, stamps, parts, strict=True)
    }


def decodable(group: FeatureGroup, packed: Mapping[str, bytes]) -> dict[str, State]:
    """As `decode`, without the states that it refuses."""
    found: dict[str, State] = {}
    for key, state in packed.items():
        with suppress(ValueError):
            found[key] = decode(group, state)
    return found


def unpack(group: FeatureGroup, packed: Sequence[bytes], keys: np.ndarray) -> Unpacked:
    """The states in `packed`, with `keys` (int64[states]) in their rows' key column.

    ValueError when one belongs to another definition or is cut short.
    """
    counts = np.empty((len(packed), 1 + len(group.entries)), np.int64)
    stamps = np.empty((len(packed), 2), np.int64)
    cuts, head = _cuts(group), _HEADER.size + 4 * len(group.entries)
    blocks: list[list[memoryview]] = [[] for _ in cuts]
    for i, state in enumerate(packed):
        stamps[i], counts[i] = _header(group, state, cuts)
        body, at = memoryview(state), head
        for block, (table, size) in zip(blocks, cuts, strict=True):
            end = at + size * int(counts[i, table])
            block.append(body[at:end])
            at = end
    joined = [b"".join(block) for block in blocks]
    tiles = _with_keys(joined[0], 2 + len(group.accumulators), keys, counts[:, 0])
    base = np.cumsum(counts[:, 0]) - counts[:, 0]
    entries: list[np.ndarray] = []
    for i, part in enumerate(group.entries):
        index = np.frombuffer(joined[1 + 2 * i], "<i4")
        many = counts[:, 1 + i]
        if ((index < 0) | (index >= np.repeat(counts[:, 0], many))).any():
            raise ValueError(f"state of group {group.name}: an entry names no tile")
        rows = np.frombuffer(joined[2 + 2 * i], "<i8").reshape(-1, part.width)
        table = np.column_stack([tiles[index + np.repeat(base, many), :STATE], rows])
        if part.newest:
            for level in group.open_levels:
                mine = table[:, LEVEL] == level
                table[mine, START] = group.levels[level].tile_start(table[mine, STATE])
        entries.append(table)
    return Unpacked(stamps[:, 0], stamps[:, 1], Rows(tiles, tuple(entries)))


def _cuts(group: FeatureGroup) -> list[tuple[int, int]]:
    """What a state holds after its header: (table it counts by, bytes of a row) of each block."""
    cuts = [(0, 8 * (2 + len(group.accumulators)))]
    for i, part in enumerate(group.entries, 1):
        cuts += [(i, 4), (i, 8 * part.width)]
    return cuts


def _header(
    group: FeatureGroup, packed: bytes, cuts: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], tuple[int, ...]]:
    """(seq, as-of) and the number of rows of each table; ValueError unless the bytes fit them."""
    head = _HEADER.size + 4 * len(group.entries)
    if len(packed) < head:
        raise ValueError(f"state of group {group.name}: {len(packed)} bytes hold no header")
    version, digest, seq, as_of, count = _HEADER.unpack_from(packed)
    if version != _VERSION or digest.hex() != group.digest:
        raise ValueError(
            f"state of group {group.name} was written by definition {digest.hex()} (version "
            f"{version}), this reader has {group.digest}: run `headrace materialize`"
        )
    counts = (count, *struct.unpack_from(f"<{len(group.entries)}I", packed, _HEADER.size))
    wanted = head + sum(size * counts[table] for table, size in cuts)
    if len(packed) != wanted:
        raise ValueError(f"state of group {group.name}: {len(packed)} bytes, not {wanted}")
    return (seq, as_of), counts


def _with_keys(packed: bytes, width: int, keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """int64[sum of counts, 1 + width]: the packed rows behind the key of each."""
    rows = np.empty((int(counts.sum()), 1 + width), np.int64)
    rows[:, KEY] = np.repeat(keys, counts)
    rows[:, 1:] = np.frombuffer(packed, "<i8").reshape(-1, width)
    return rows


def tile_index(tiles: np.ndarray, table: np.ndarray) -> np.ndarray:
    """int64[n]: the tile of each entry of one key, the last of its level that starts no later: an
    entry of a session starts at its own time, its segment where the chain began."""
    both = np.concatenate([tiles[:, LEVEL:STATE], table[:, LEVEL:STATE]])
    side = np.arange(len(both)) >= len(tiles)
    order = np.lexsort((side, both[:, 1], both[:, 0]))
    found = np.empty(len(both), np.int64)
    found[order] = np.cumsum(~side[order]) - 1
    return found[len(tiles) :]
