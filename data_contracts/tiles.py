"""Tables of tiles of many keys: merged, folded, expired, and read by the window law.

A tile is a row `(key, level, start, accumulators…)`; its entries are rows `(key, level, start,
entry…)` of tables beside it. An event is itself a tile, of level `RAW`: events before the writer's
as-of are folded into a tile of every level the group's windows need, later ones wait raw and the
reader filters them by `t < q`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_contracts.accumulators import UFUNC, Decayed, Events
from data_contracts.clock import duration
from data_contracts.entries import Entries, Part
from data_contracts.features import ENDS, FeatureGroup, Seen
from data_contracts.sessions import chains, session_starts
from data_contracts.windows import RAW, Session, Window, floor

KEY, LEVEL, START, STATE = 0, 1, 2, 3
"""Columns of a table: key index, level, start (µs), then accumulators or an entry."""


@dataclass(frozen=True)
class Rows:
    """Tiles and their entries, each table sorted by (key, level, start) once merged."""

    tiles: np.ndarray
    """int64[n, 3 + accumulators]."""
    entries: tuple[np.ndarray, ...]
    """Per `group.entries`: int64[m, 3 + width]."""

    @property
    def tables(self) -> tuple[np.ndarray, ...]:
        return (self.tiles, *self.entries)


def no_rows(group: FeatureGroup) -> Rows:
    """Empty tables of a group."""
    widths = (len(group.accumulators), *(part.width for part in group.entries))
    return _rows([np.empty((0, STATE + width), np.int64) for width in widths])


def raw_rows(group: FeatureGroup, keys: np.ndarray, events: Events) -> Rows:
    """The tiles of single events: `keys` int64[n] are the indices of the events' keys."""
    lead = np.column_stack([keys, np.full(len(keys), RAW, np.int64), events.time])
    tables = [np.column_stack([lead, group.lift(events)])]
    for part in group.entries:
        at, rows = part.lift(events)
        tables.append(np.column_stack([lead[at], rows]))
    return _rows(tables)


def concat(parts: Sequence[Rows]) -> Rows:
    """The rows of all; not merged."""
    return _rows([np.concatenate(same) for same in zip(*(p.tables for p in parts), strict=True)])


def where(rows: Rows, keep: Sequence[np.ndarray]) -> Rows:
    """The rows for which the mask of each table holds."""
    return _rows([table[mask] for table, mask in zip(rows.tables, keep, strict=True)])


def merge(group: FeatureGroup, rows: Rows) -> Rows:
    """Sort by (key, level, start), merge the rows that share them, join sessions' segments."""
    for window in group.windows:
        if isinstance(window, Session):
            rows = _joined(group, window, rows)
    tiles = rows.tiles
    if len(tiles):
        tiles = tiles[np.lexsort((tiles[:, START], tiles[:, LEVEL], tiles[:, KEY]))]
        first = _changes(tiles, STATE)
        merged = tiles[first]
        for i, part in enumerate(group.accumulators):
            merged[:, STATE + i] = UFUNC[part.reduce].reduceat(tiles[:, STATE + i], first)
        tiles = merged
    entries = zip(group.entries, rows.entries, strict=True)
    return Rows(tiles, tuple(_merged_entries(group, part, table) for part, table in entries))


def fold(group: FeatureGroup, rows: Rows, as_of: np.ndarray) -> Rows:
    """Fold raw rows before their key's `as_of` (int64[keys] µs) into a tile of every level."""
    ripe = [(t[:, LEVEL] == RAW) & (t[:, START] < as_of[t[:, KEY]]) for t in rows.tables]
    parts = [where(rows, [~mask for mask in ripe])]
    raw = where(rows, ripe)
    for level, window in group.levels.items():
        tables = [table.copy() for table in raw.tables]
        for table in tables:
            table[:, LEVEL] = level
            table[:, START] = window.tile_start(table[:, START])
        parts.append(_rows(tables))
    return merge(group, concat(parts))


def expire(group: FeatureGroup, rows: Rows, as_of: np.ndarray) -> Rows:
    """Drop what no window can reach at any *q* >= the key's `as_of` (int64[keys] µs)."""

    def reached(table: np.ndarray) -> np.ndarray:
        keep = np.zeros(len(table), dtype=bool)
        for window in group.windows:
            lo, _ = window.bounds(as_of)
            keep |= _of(window, table) & (table[:, START] >= lo[table[:, KEY]])
        return keep

    return where(rows, [reached(table) for table in rows.tables])


def window_states(group: FeatureGroup, rows: Rows, q: np.ndarray) -> dict[Window, Seen]:
    """Per window what each key sees at its query time (`q` int64[keys] µs)."""
    return {window: _window_state(group, window, rows, q) for window in group.windows}


def lower_bounds(group: FeatureGroup, window: Window, rows: Rows, q: np.ndarray) -> np.ndarray:
    """int64[keys]: the start (µs) from which each key's rows are in the window at its `q`
    (int64[keys] µs); of a session where it begins, `q` where there is none."""
    if isinstance(window, Session):
        tiles = rows.tiles[_of(window, rows.tiles)]
        ends = tiles[:, STATE + group.accumulators.index(ENDS)]
        gap = duration(window.gap)
        return session_starts(window, gap, tiles[:, KEY], tiles[:, START], ends, q)
    return window.bounds(q)[0]


def _window_state(group: FeatureGroup, window: Window, rows: Rows, q: np.ndarray) -> Seen:
    lows, (_, highs) = lower_bounds(group, window, rows, q), window.bounds(q)
    tables: list[np.ndarray] = []
    for table in rows.tables:
        own, start = table[:, KEY], table[:, START]
        tables.append(table[_of(window, table) & (start >= lows[own]) & (start < highs[own])])
    tiles = tables[0]
    parts: dict[Part, np.ndarray] = {}
    place = group.places
    for part in group.parts:
        if isinstance(part, Entries):
            table = tables[1 + place[part]]
            parts[part] = compact(part, np.delete(table, (LEVEL, START), axis=1), STATE - 2)
            continue
        base = part.base if isinstance(part, Decayed) else part
        column = tiles[:, STATE + place[base]]
        if isinstance(part, Decayed):
            reached = floor(q, window.level)[tiles[:, KEY]]
            ages = (reached - floor(tiles[:, START], window.level)) // window.level
            column = column * part.weights(window.level, window.tiles)[ages]
        state = np.full(len(q), part.identity, np.int64)
        UFUNC[base.reduce].at(state, tiles[:, KEY], column)
        parts[part] = state
    return Seen(len(q), parts)


def compact(part: Entries, rows: np.ndarray, lead: int) -> np.ndarray:
    """Sort entries, merge those of one identity and keep the declared number.

    `rows` int64[n, lead + width]: the first `lead` columns say what they belong to.
    """
    if not len(rows):
        return rows
    named = lead + part.identity
    rows = rows[np.lexsort(rows[:, :named].T[::-1])]
    first = _changes(rows, named)
    merged = rows[first]
    if part.reduce is not None:
        merged[:, named] = UFUNC[part.reduce].reduceat(rows[:, named], first)
    edges = _changes(merged, lead)
    size = np.diff(np.append(edges, len(merged)))
    rank = np.arange(len(merged)) - np.repeat(edges, size)
    if part.newest:
        rank = np.repeat(size, size) - 1 - rank
    return merged[rank < part.keep]


def _merged_entries(group: FeatureGroup, part: Entries, table: np.ndarray) -> np.ndarray:
    if not part.newest or not group.open_levels:
        return compact(part, table, STATE)
    # Of a level whose windows all end at q only the newest entries can ever be read, whichever
    # tile holds them: one list a level. Their own times are their tiles' order.
    open_ = np.isin(table[:, LEVEL], group.open_levels)
    once = compact(part, np.delete(table[open_], START, axis=1), START)
    level = dict(group.levels)
    starts = np.empty(len(once), np.int64)
    for name in group.open_levels:
        at = once[:, LEVEL] == name
        starts[at] = level[name].tile_start(once[at, START])
    once = np.insert(once, START, starts, axis=1)
    both = np.concatenate([compact(part, table[~open_], STATE), once])
    return both[np.lexsort(both[:, : STATE + part.identity].T[::-1])]


def _joined(group: FeatureGroup, window: Session, rows: Rows) -> Rows:
    """Give every segment of the session's level, and its entries, the start of its chain."""
    at = np.flatnonzero(rows.tiles[:, LEVEL] == window.level)
    tiles = rows.tiles[at]
    order = np.lexsort((tiles[:, START], tiles[:, KEY]))
    segment = tiles[order]
    ends = segment[:, STATE + group.accumulators.index(ENDS)]
    first, _ = chains(segment[:, KEY], segment[:, START], ends, duration(window.gap), window.hop)
    tables = [table.copy() for table in rows.tables]
    tables[0][at[order], START] = segment[first, START]
    for table in tables[1:]:
        mine = np.flatnonzero(table[:, LEVEL] == window.level)
        # An entry lies in a segment of its own key and start: the one that sorts right before it.
        both = np.concatenate([segment[:, [KEY, START]], table[mine][:, [KEY, START]]])
        side = np.arange(len(both)) >= len(segment)
        sort = np.lexsort((side, both[:, 1], both[:, 0]))
        last = np.maximum.accumulate(np.where(side[sort], 0, sort))
        found = np.empty(len(both), np.int64)
        found[sort] = last
        table[mine, START] = segment[first[found[len(segment) :]], START]
    return _rows(tables)


def _of(window: Window, table: np.ndarray) -> np.ndarray:
    return (table[:, LEVEL] == window.level) | (table[:, LEVEL] == RAW)


def _changes(rows: np.ndarray, columns: int) -> np.ndarray:
    """Indices at which the first `columns` columns of sorted rows change, 0 among them."""
    change = (rows[1:, :columns] != rows[:-1, :columns]).any(axis=1)
    return np.concatenate(([0], np.flatnonzero(change) + 1)) if len(rows) else np.empty(0, np.int64)


def _rows(tables: Sequence[np.ndarray]) -> Rows:
    return Rows(tables[0], tuple(tables[1:]))
