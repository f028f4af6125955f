"""Features from what was known at *q* instead of from all that had happened before it."""

import numpy as np

from data_contracts.accumulators import Events
from data_contracts.features import FeatureGroup
from data_contracts.point_in_time import BLOCK, Timeline, range_extreme, window_states


def as_known(
    group: FeatureGroup,
    keys: np.ndarray,
    events: Events,
    known: np.ndarray,
    asked: np.ndarray,
    q: np.ndarray,
) -> np.ndarray:
    """float64[queries, features] from the events with `known` (int64[events] µs) at most `q`.

    The other arguments are those of `point_in_time.window_states`.
    """
    values = group.finalize(window_states(group, keys, events, asked, q), q)
    order = np.lexsort((events.time, keys))
    own = Timeline(keys[order], events.time[order])
    lows = np.min([window.bounds(q)[0] for window in group.windows], axis=0)
    first, last = own.position(asked, lows), own.position(asked, q)
    least = np.iinfo(np.int64).min
    latest = range_extreme(np.maximum, least, known[order], first, last)
    behind = np.flatnonzero(latest > q)
    edges = np.concatenate(([0], np.cumsum((last - first)[behind])))
    begin = 0
    while begin < len(behind):
        end = max(begin + 1, int(np.searchsorted(edges, edges[begin] + BLOCK, "right")) - 1)
        mine = behind[begin:end]
        size = (last - first)[mine]
        query = np.repeat(np.arange(len(mine)), size)
        at: np.ndarray = np.arange(int(size.sum())) - np.repeat(
            np.cumsum(size) - size - first[mine], size
        )
        seen = known[order[at]] <= q[mine][query]
        own_events = events.take(order[at[seen]])
        states = window_states(group, query[seen], own_events, np.arange(len(mine)), q[mine])
        values[mine] = group.finalize(states, q[mine])
        begin = end
    return values
