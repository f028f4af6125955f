"""Which units each share of a canary decided about: the input of the sample-ratio test."""

import numpy as np

from data_contracts.rollout import BUCKETS
from data_contracts.sequences import Split


def splits(units: np.ndarray, bps: np.ndarray, candidate: np.ndarray) -> tuple[Split, ...]:
    """Per share and share before: how many distinct units were decided about, how they fell.

    Of the same length, in any order and as often as they were seen: a unit (any sortable ids),
    the share of the canary (int, basis points), whether it was the candidate's (bool). A unit of
    the champion's is decided about again at the next share; one of the candidate's stays, and
    counts no more.
    """
    if not len(units):
        return ()
    order = np.lexsort((candidate, bps, units))
    unit, share, theirs = units[order], bps[order].astype(np.int64), candidate[order]
    fresh = np.ones(len(unit), bool)
    fresh[1:] = (unit[1:] != unit[:-1]) | (share[1:] != share[:-1])
    unit, share, theirs = unit[fresh], share[fresh], theirs[fresh]
    first = np.ones(len(unit), bool)
    first[1:] = unit[1:] != unit[:-1]
    begins = np.flatnonzero(first)[np.cumsum(first) - 1]
    # How many of the unit's earlier rows were the candidate's.
    gone = np.concatenate([[0], np.cumsum(theirs)])
    open_ = gone[:-1] == gone[begins]
    before = np.where(first, 0, np.concatenate([[0], share[:-1]]))
    decided, which = np.unique(np.stack([before, share])[:, open_], axis=1, return_inverse=True)
    fell = np.bincount(which, theirs[open_]).astype(int).tolist()
    counts = np.bincount(which).tolist()
    return tuple(
        Split((after - left) / (BUCKETS - left), ours, count)
        for (left, after), ours, count in zip(decided.T.tolist(), fell, counts, strict=True)
    )
