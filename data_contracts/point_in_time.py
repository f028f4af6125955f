"""Features of many queries straight from events: sort once, prefix sums, binary search.

The second, independent way to the numbers of `tiles`: no tile is built here.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_contracts.accumulators import UFUNC, Accumulator, Decayed, Events
from data_contracts.clock import duration
from data_contracts.entries import Entries, Ordered, Part
from data_contracts.features import FeatureGroup, Seen
from data_contracts.sessions import chains
from data_contracts.tiles import compact
from data_contracts.windows import Session, Sliding, Window, floor

BLOCK = 2**20
"""Entries of windows that are laid out side by side at once."""


@dataclass(frozen=True)
class Timeline:
    """Events by key: `keys` int64 codes from 0 and `times` µs, sorted to be asked."""

    keys: np.ndarray
    times: np.ndarray

    def order(self) -> np.ndarray:
        """int64[n]: the events sorted by (key, time)."""
        return np.argsort(self._line)

    def tied(self) -> np.ndarray:
        """bool[n]: the events that share key and time with another."""
        tied = np.zeros(len(self.keys), dtype=bool)
        order = self.order()
        same = np.flatnonzero(np.diff(self._line[order]) == 0)
        tied[order[same]] = tied[order[same + 1]] = True
        return tied

    def take(self, at: np.ndarray) -> "Timeline":
        """The events `at`."""
        return Timeline(self.keys[at], self.times[at])

    def position(self, keys: np.ndarray, times: np.ndarray) -> np.ndarray:
        """int64[n]: how many events sort before (key, time) of each query."""
        if not len(self.keys):
            return np.zeros(len(keys), np.int64)
        return np.searchsorted(self._line, self._on_line(keys, times))

    @cached_property
    def _bounds(self) -> tuple[int, int, int]:
        return int(self.times.min()), int(self.times.max()), int(self.keys.max()) + 1

    @cached_property
    def _moments(self) -> np.ndarray | None:
        """The distinct times, where key and time are too wide for one number."""
        first, last, codes = self._bounds
        return None if (last - first + 2) * (codes + 1) < 2**63 else np.unique(self.times)

    @cached_property
    def _line(self) -> np.ndarray:
        return self._on_line(self.keys, self.times) if len(self.keys) else self.keys

    def _on_line(self, keys: np.ndarray, times: np.ndarray) -> np.ndarray:
        """int64[n]: (key, time) as one number that sorts among the events' own as they do."""
        first, last, codes = self._bounds
        if self._moments is not None:
            span, at = len(self._moments) + 1, np.searchsorted(self._moments, times)
        else:
            span, at = last - first + 2, np.clip(times, first, last + 1) - first
        return np.minimum(keys, codes) * span + at


def window_states(
    group: FeatureGroup, keys: np.ndarray, events: Events, asked: np.ndarray, q: np.ndarray
) -> dict[Window, Seen]:
    """What each query sees through every window.

    `keys` int64[events] and `asked` int64[queries] are codes of one key space; `q` is in µs.
    """
    own = Timeline(keys, events.time)
    order, back = own.order(), Timeline(asked, q).order()
    own, events = own.take(order), events.take(order)
    asked, q = asked[back], q[back]
    bounds: list[tuple[np.ndarray, np.ndarray]] = []
    for window in group.windows:
        lo, hi = window.bounds(q)
        if isinstance(window, Session):
            lo = _session_starts(window, own, asked, lo, hi)
        bounds.append((lo, hi))
    every = np.tile(asked, len(bounds))
    first = own.position(every, np.concatenate([lo for lo, _ in bounds]))
    last = np.maximum(first, own.position(every, np.concatenate([hi for _, hi in bounds])))
    found: dict[Window, dict[Part, np.ndarray]] = {window: {} for window in group.windows}
    for part in group.parts:
        states: list[np.ndarray]
        if isinstance(part, Entries):
            table = _entries(part, own, events)
            states = [_window_entries(part, *table, asked, lo, hi) for lo, hi in bounds]
        elif isinstance(part, Decayed):
            prefix = np.concatenate(([0], np.cumsum(part.base.lift(events))))
            starts = np.split(first, len(bounds))
            pairs = zip(group.windows, starts, strict=True)
            states = [_decayed(part, w, own, prefix, asked, q, lower) for w, lower in pairs]
        else:
            states = np.split(_range(part, part.lift(events), first, last), len(bounds))
        for window, state in zip(group.windows, states, strict=True):
            found[window][part] = _unsorted(part, state, back)
    return {window: Seen(len(q), parts) for window, parts in found.items()}


def _unsorted(part: Part, state: np.ndarray, back: np.ndarray) -> np.ndarray:
    """A state of the queries sorted by `back` as that of the queries in their own order."""
    if isinstance(part, Entries):
        state[:, 0] = back[state[:, 0]]
        return state[np.argsort(state[:, 0], kind="stable")]
    own = np.empty_like(state)
    own[back] = state
    return own


def _session_starts(
    window: Session, own: Timeline, keys: np.ndarray, lo: np.ndarray, q: np.ndarray
) -> np.ndarray:
    """int64[queries]: where the session at each `q` begins, `q` itself where there is none."""
    gap = duration(window.gap)
    head, _ = chains(own.keys, own.times, own.times, gap)
    before, first = own.position(keys, q) - 1, own.position(keys, lo)
    open_ = np.flatnonzero(before >= first)
    open_ = open_[q[open_] - own.times[before[open_]] <= gap]
    starts = q.copy()
    starts[open_] = np.maximum(lo[open_], own.times[head[before[open_]]])
    return starts


def _range(
    part: Accumulator, values: np.ndarray, first: np.ndarray, last: np.ndarray
) -> np.ndarray:
    if part.reduce == "add":
        prefix = np.concatenate(([0], np.cumsum(values)))
        return prefix[last] - prefix[first]
    return range_extreme(UFUNC[part.reduce], part.identity, values, first, last)


def range_extreme(
    ufunc: np.ufunc, identity: int, values: np.ndarray, first: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """Range minimum or maximum from a sparse table of powers of two."""
    result = np.full(len(first), identity, np.int64)
    length = last - first
    level, table = 0, values
    while len(table) and (1 << level) <= length.max(initial=0):
        at = np.flatnonzero(length >> level == 1)
        right = last[at] - (1 << level)
        result[at] = ufunc(table[first[at]], table[right])
        step = 1 << level
        table = ufunc(table[:-step], table[step:]) if len(table) > step else table[:0]
        level += 1
    return result


def _decayed(
    part: Decayed,
    window: Window,
    own: Timeline,
    prefix: np.ndarray,
    keys: np.ndarray,
    q: np.ndarray,
    first: np.ndarray,
) -> np.ndarray:
    assert isinstance(window, Sliding)
    total = np.zeros(len(q), np.int64)
    upper = own.position(keys, q)
    for age, weight in enumerate(part.weights(window.hop, window.tiles).tolist()):
        lower = np.maximum(first, own.position(keys, floor(q, window.hop) - age * window.hop))
        total += weight * (prefix[upper] - prefix[lower])
        upper = lower
    return total


def _entries(part: Entries, own: Timeline, events: Events) -> tuple[Timeline, np.ndarray]:
    """The entries of all events, each with its event's key and time, in their order."""
    at, rows = part.lift(events)
    own = own.take(at)
    same = (own.keys[1:] == own.keys[:-1]) & (own.times[1:] == own.times[:-1])
    if not isinstance(part, Ordered) or not same.any():
        return own, rows
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    columns = [*rows[tied].T[::-1], own.keys[tied]]
    rows[tied] = rows[tied[np.lexsort(columns)]]
    again = np.append(False, same & (rows[1:] == rows[:-1]).all(axis=1))
    return own.take(~again), rows[~again]


def _window_entries(
    part: Entries,
    own: Timeline,
    rows: np.ndarray,
    keys: np.ndarray,
    lo: np.ndarray,
    hi: np.ndarray,
) -> np.ndarray:
    """int64[m, 1 + width]: the entries of each query's window, its index first."""
    first = own.position(keys, lo)
    last = np.maximum(first, own.position(keys, hi))
    if isinstance(part, Ordered):
        # These are in the events' own order: the first or the last few are the answer.
        if part.newest:
            first = np.maximum(first, last - part.keep)
        else:
            last = np.minimum(last, first + part.keep)
    edges = np.concatenate(([0], np.cumsum(last - first)))
    found = [np.empty((0, 1 + rows.shape[1]), np.int64)]
    begin = 0
    while begin < len(keys):
        end = max(begin + 1, int(np.searchsorted(edges, edges[begin] + BLOCK, "right")) - 1)
        size = last[begin:end] - first[begin:end]
        query = np.repeat(np.arange(begin, end), size)
        here = edges[begin:end] - first[begin:end]
        at = np.arange(int(edges[begin]), int(edges[end])) - np.repeat(here, size)
        laid = np.column_stack([query, rows[at]])
        found.append(laid if isinstance(part, Ordered) else compact(part, laid, 1))
        begin = end
    return np.concatenate(found)
