"""Features of many queries straight from events: sort once, prefix sums, binary search.

The second, independent way to the numbers of `tiles`: no tile is built here.
"""

from dataclasses import dataclass

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
    """Events (or queries) by key: `keys` int64 codes and `times` µs, sorted by (key, time)."""

    keys: np.ndarray
    times: np.ndarray

    def position(self, keys: np.ndarray, times: np.ndarray) -> np.ndarray:
        """int64[n]: how many events sort before (key, time) of each query."""
        if not len(self.keys):
            return np.zeros(len(keys), np.int64)
        first, last = int(self.times.min()), int(self.times.max())
        span = last - first + 2
        codes = max(int(self.keys.max()), int(keys.max(initial=0))) + 1
        if span * codes < 2**63:
            own = self.keys * span + (self.times - first)
            asked = keys * span + (np.clip(times, first, last + 1) - first)
            return np.searchsorted(own, asked)
        # Too wide for one number: the order of the times among themselves says as much.
        moments = np.unique(self.times)
        ranks = Timeline(self.keys, np.searchsorted(moments, self.times))
        return ranks.position(keys, np.searchsorted(moments, times))


def window_states(
    group: FeatureGroup, keys: np.ndarray, events: Events, asked: np.ndarray, q: np.ndarray
) -> dict[Window, Seen]:
    """What each query sees through every window.

    `keys` int64[events] and `asked` int64[queries] are codes of one key space; `q` is in µs.
    """
    order = np.lexsort((events.time, keys))
    back = np.lexsort((q, asked))
    own = Timeline(keys[order], events.time[order])
    query_keys, moments = asked[back], q[back]
    lifted = {part: part.lift(events)[order] for part in group.accumulators}
    tables = {part: _entries(part, keys, events) for part in group.entries}
    states: dict[Window, Seen] = {}
    for window in group.windows:
        lo, hi = window.bounds(moments)
        if isinstance(window, Session):
            lo = _session_starts(window, own, query_keys, lo, hi)
        first, last = own.position(query_keys, lo), own.position(query_keys, hi)
        parts: dict[Part, np.ndarray] = {}
        for part in group.parts:
            if isinstance(part, Entries):
                found = _window_entries(part, *tables[part], query_keys, lo, hi)
                found[:, 0] = back[found[:, 0]]
                parts[part] = found[np.argsort(found[:, 0], kind="stable")]
                continue
            if isinstance(part, Decayed):
                assert isinstance(window, Sliding)
                state = _decayed(part, window, own, lifted[part.base], query_keys, moments, first)
            else:
                state = _range(part, lifted[part], first, last)
            parts[part] = np.empty_like(state)
            parts[part][back] = state
        states[window] = Seen(len(q), parts)
    return states


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
        return prefix[np.maximum(first, last)] - prefix[first]
    return _range_extreme(UFUNC[part.reduce], part.identity, values, first, last)


def _range_extreme(
    ufunc: np.ufunc, identity: int, values: np.ndarray, first: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """Range minimum or maximum from a sparse table of powers of two."""
    result = np.full(len(first), identity, np.int64)
    length = last - first
    level, table = 0, values
    while len(table) and (1 << level) <= length.max(initial=0):
        at = np.flatnonzero(length.clip(min=0) >> level == 1)
        right = last[at] - (1 << level)
        result[at] = ufunc(table[first[at]], table[right])
        step = 1 << level
        table = ufunc(table[:-step], table[step:]) if len(table) > step else table[:0]
        level += 1
    return result


def _decayed(
    part: Decayed,
    window: Sliding,
    own: Timeline,
    values: np.ndarray,
    keys: np.ndarray,
    q: np.ndarray,
    first: np.ndarray,
) -> np.ndarray:
    prefix = np.concatenate(([0], np.cumsum(values)))
    total = np.zeros(len(q), np.int64)
    upper = own.position(keys, q)
    for age, weight in enumerate(part.weights(window.hop, window.tiles).tolist()):
        lower = np.maximum(first, own.position(keys, floor(q, window.hop) - age * window.hop))
        total += weight * (prefix[upper] - prefix[lower])
        upper = lower
    return total


def _entries(part: Entries, keys: np.ndarray, events: Events) -> tuple[Timeline, np.ndarray]:
    """The entries of all events, each with its event's key and time, in their order."""
    at, rows = part.lift(events)
    columns = [*rows.T[: part.identity][::-1], events.time[at], keys[at]]
    order = np.lexsort(columns)
    return Timeline(keys[at][order], events.time[at][order]), rows[order]


def _window_entries(
    part: Entries,
    own: Timeline,
    rows: np.ndarray,
    keys: np.ndarray,
    lo: np.ndarray,
    hi: np.ndarray,
) -> np.ndarray:
    """int64[m, 1 + width]: the entries of each query's window, its index first."""
    first, last = own.position(keys, lo), own.position(keys, hi)
    last = np.maximum(first, last)
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
        found.append(compact(part, laid, 1))
        begin = end
    return np.concatenate(found)
