"""Intervals of the AUC and of the difference of two on the same rows, without resampling.

DeLong, DeLong & Clarke-Pearson 1988, in the form of Sun & Xu 2014: midranks, O(n log n). Where
`users` are given, for rows that come in clusters (Obuchowski 1997).
"""

from statistics import NormalDist

import numpy as np

from data_contracts.evidence import Estimate, midranks, units_of

_NONE = float("nan")


def auc_interval(
    labels: np.ndarray,
    scores: np.ndarray,
    confidence: float = 0.95,
    users: np.ndarray | None = None,
) -> Estimate:
    """The AUC, its interval clipped to [0, 1].

    NaN with one class only; no interval with fewer than two users who have a row of a class, nor
    where all pairs or none are in order: the rows then say nothing of the variance.
    """
    parts = _components(labels, scores)
    if parts is None:
        return Estimate(_NONE, _NONE, _NONE, len(labels))
    value, error = _value(parts), _error(parts, labels, users)
    if value in (0.0, 1.0):
        error = _NONE
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    low, high = max(value - reach, 0.0), min(value + reach, 1.0)
    if error != error:
        low = high = _NONE
    return Estimate(value, low, high, len(labels))


def auc_difference(
    labels: np.ndarray,
    candidate: np.ndarray,
    baseline: np.ndarray,
    confidence: float = 0.95,
    users: np.ndarray | None = None,
) -> Estimate:
    """AUC of candidate minus baseline on the same rows; > 0 is better. NaN as `auc_interval`."""
    ours, theirs = _components(labels, candidate), _components(labels, baseline)
    if ours is None or theirs is None:
        return Estimate(_NONE, _NONE, _NONE, len(labels))
    error = _error((ours[0] - theirs[0], ours[1] - theirs[1]), labels, users)
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


def _error(parts: Components, labels: np.ndarray, users: np.ndarray | None) -> float:
    """Standard error: what each user's rows add to the value, squared and summed over users."""
    unit, count = units_of(len(labels), users)
    positive = np.asarray(labels) > 0
    own: list[np.ndarray] = []
    spread = 0.0
    for part, rows in zip(parts, (positive, ~positive), strict=True):
        having = len(np.unique(unit[rows]))
        if having < 2:
            return _NONE
        own.append(np.bincount(unit[rows], part - part.mean(), minlength=count) / len(part))
        spread += having / (having - 1) * float((own[-1] ** 2).sum())
    spread += 2 * count / (count - 1) * float((own[0] * own[1]).sum())
    return float(np.sqrt(spread))
