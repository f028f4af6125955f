"""Features of many queries straight from events: sort once, prefix sums, binary search.

The second, independent way to the numbers of `tiles`: no tile is built here.
"""

import numpy as np

from data_contracts.aggregates import UFUNC
from data_contracts.features import FeatureGroup
from data_contracts.windows import Window


def window_states(
    group: FeatureGroup,
    keys: np.ndarray,
    times: np.ndarray,
    lifted: np.ndarray,
    query_keys: np.ndarray,
    query_times: np.ndarray,
) -> dict[Window, np.ndarray]:
    """int64[queries, accumulators] per window.

    `keys`, `query_keys`: int64 codes of one key space; times in µs; `lifted`: int64[events, a].
    """
    order = np.lexsort((times, keys))
    keys, times, lifted = keys[order], times[order], lifted[order]
    states: dict[Window, np.ndarray] = {}
    for window in group.windows:
        lo, hi = window.bounds(query_times)
        first = _position(keys, times, query_keys, lo)
        last = _position(keys, times, query_keys, hi)
        columns = [
            _range_add(lifted[:, i], first, last)
            if part.reduce == "add"
            else _range_extreme(UFUNC[part.reduce], part.identity, lifted[:, i], first, last)
            for i, part in enumerate(group.accumulators)
        ]
        states[window] = np.stack(columns, axis=1)
    return states


def _position(
    keys: np.ndarray, times: np.ndarray, query_keys: np.ndarray, query_times: np.ndarray
) -> np.ndarray:
    """How many events sort before (key, time) of each query: one merge sort of both sides."""
    n = len(keys)
    side = np.concatenate([np.ones(n, np.int8), np.zeros(len(query_keys), np.int8)])
    order = np.lexsort(
        (side, np.concatenate([times, query_times]), np.concatenate([keys, query_keys]))
    )
    before = np.cumsum(order < n)
    position = np.empty(len(order), np.int64)
    position[order] = before
    return position[n:]


def _range_add(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    prefix = np.concatenate(([0], np.cumsum(values)))
    return prefix[last] - prefix[first]


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
