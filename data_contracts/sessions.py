"""Session segments: which join into one chain, and where the session under way begins."""

import numpy as np

from data_contracts.windows import Session, floor


def chains(
    keys: np.ndarray, starts: np.ndarray, ends: np.ndarray, gap: int, hop: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For segments sorted by (key, start): the index of the first segment of each one's chain,
    int64[n], and the end (µs) of that chain up to and including it, int64[n].

    Segments chain when the distance from the end so far to the next start is at most `gap` µs;
    with `hop` no chain crosses a multiple of it.
    """
    n = len(keys)
    # The running maximum of the ends within a key, by ranks: an offset per key cannot overflow.
    moments, rank = np.unique(ends, return_inverse=True)
    offset = np.cumsum(np.concatenate(([0], keys[1:] != keys[:-1]))) * (n + 1)
    reached = moments[np.maximum.accumulate(rank + offset) % (n + 1)] if n else ends
    new = np.ones(n, dtype=bool)
    new[1:] = (keys[1:] != keys[:-1]) | (starts[1:] - reached[:-1] > gap)
    if hop is not None:
        new[1:] |= floor(starts[1:], hop) != floor(starts[:-1], hop)
    first = np.maximum.accumulate(np.where(new, np.arange(n), 0))
    return first, reached


def session_starts(
    window: Session,
    gap: int,
    keys: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    q: np.ndarray,
) -> np.ndarray:
    """int64[keys]: where each key's session at its `q` (int64[keys] µs) begins; `q` itself where
    there is none.

    `keys`, `starts`, `ends` are its segments before `q` in any order.
    """
    lo, _ = window.bounds(q)
    at = np.flatnonzero((starts >= lo[keys]) & (starts < q[keys]))
    at = at[np.lexsort((starts[at], keys[at]))]
    begin = q.copy()
    if len(at):
        keys, starts, ends = keys[at], starts[at], ends[at]
        first, reached = chains(keys, starts, ends, gap)
        last = np.flatnonzero(np.append(keys[1:] != keys[:-1], True))
        open_ = last[q[keys[last]] - reached[last] <= gap]
        begin[keys[open_]] = starts[first[open_]]
    return begin
