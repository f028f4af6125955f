"""Intervals of the AUC and of the difference of two on the same rows, without resampling.

DeLong, DeLong & Clarke-Pearson 1988, in the form of Sun & Xu 2014: midranks, O(n log n).
"""

from statistics import NormalDist

import numpy as np

from data_contracts.evidence import Estimate, midranks

_NONE = float("nan")


def auc_interval(labels: np.ndarray, scores: np.ndarray, confidence: float = 0.95) -> Estimate:
    """The AUC, its interval clipped to [0, 1].

    NaN with one class only; no interval with fewer than two rows of a class, nor where all pairs
    or none are in order: the rows then say nothing of the variance.
    """
    parts = _components(labels, scores)
    if parts is None:
        return Estimate(_NONE, _NONE, _NONE, len(labels))
    value, error = _value(parts), _error(parts)
    if value in (0.0, 1.0):
        error = _NONE
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    low, high = max(value - reach, 0.0), min(value + reach, 1.0)
    if error != error:
        low = high = _NONE
    return Estimate(value, low, high, len(labels))


def auc_difference(
    labels: np.ndarray, candidate: np.ndarray, baseline: np.ndarray, confidence: float = 0.95
) -> Estimate:
    """AUC of candidate minus baseline on the same rows; > 0 is better. NaN as `auc_interval`."""
    ours, theirs = _components(labels, candidate), _components(labels, baseline)
    if ours is None or theirs is None:
        return Estimate(_NONE, _NONE, _NONE, len(labels))
    error = _error((ours[0] - theirs[0], ours[1] - theirs[1]))
    value = _value(ours) - _value(theirs)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Estimate(value, value - reach, value + reach, len(labels))


Components = tuple[np.ndarray, np.ndarray]
"""Per positive the share of negatives below it, per negative the share of positives above."""


def _components(labels: np.ndarray, scores: np.ndarray) -> Components | None:
    positive = np.asarray(labels) > 0
    above, below = np.asarray(scores)[positive], np.asarray(scores)[~positive]
    if not len(above) or not len(below):
        return None
    rank = midranks(scores)
    ours = (rank[positive] - midranks(above)) / len(below)
    return ours, 1 - (rank[~positive] - midranks(below)) / len(above)


def _value(parts: Components) -> float:
    return float(parts[0].mean())


def _error(parts: Components) -> float:
    if min(map(len, parts)) < 2:
        return _NONE
    return float(np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)))
