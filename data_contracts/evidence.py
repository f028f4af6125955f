"""Statistics on which models are judged: pure functions of arrays, numpy only.

Rows of one user are not independent. Where `users` [n] are given, ids of any kind, an interval is
over users; without them each row counts as a user of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval and the number of rows behind it; NaN where it has no meaning."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """JSON-ready: NaN becomes None."""
        return {k: None if isinstance(v, float) and v != v else v for k, v in asdict(self).items()}


Metric = Callable[[np.ndarray, np.ndarray], float]
"""(labels 0/1 [n], probabilities [n]) -> value."""

LEAST_USERS = 20.0
"""Effective users below which nothing is judged by an interval over users. With as many, intervals
of 95 % tell two equally good models apart in 7 % of the samples, however unlike the users' numbers
of rows; with ten in 9 %, with five in 16 %, with one always (simulated)."""
SEED = 0
"""Of all resampling: the same rows give the same interval."""
DRAWS = 400
_CLIP = 1e-7


def log_losses(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """float64[n]: each row's -log likelihood; probabilities are clipped to [1e-7, 1 - 1e-7]."""
    p = np.clip(np.asarray(scores, np.float64), _CLIP, 1 - _CLIP)
    return -np.where(np.asarray(labels) > 0, np.log(p), np.log1p(-p))


def log_loss(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean negative log likelihood in nats."""
    return float(log_losses(labels, scores).mean())


def midranks(values: np.ndarray) -> np.ndarray:
    """float64[n]: ranks from 1 upwards, ties at the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve with ties at half (Mann-Whitney); NaN with one class only."""
    labels = np.asarray(labels) > 0
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return float("nan")
    rank = midranks(scores)[labels].sum()
    return float((rank - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under precision over recall as a step function, tied scores taken at once.

    NaN without a positive.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    scores, hits = np.asarray(scores)[order], np.asarray(labels)[order] > 0
    if not hits.any():
        return float("nan")
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    found = np.cumsum(hits)[last]
    return float((np.diff(found, prepend=0) * found / (last + 1)).sum() / found[-1])


def normalised_entropy(labels: np.ndarray, scores: np.ndarray) -> float:
    """Log loss over that of the rows' own base rate (He et al. 2014); below 1 is better than it.

    NaN with one class only.
    """
    rate = float(np.mean(np.asarray(labels) > 0)) if len(labels) else 0.0
    if not 0 < rate < 1:
        return float("nan")
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return float(log_loss(labels, scores) / entropy)


def calibration_error(labels: np.ndarray, scores: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over `calibration_bins` (Guo et al. 2017, equal-mass variant)."""
    predicted, observed, rows = calibration_bins(labels, scores, bins)
    return float((np.abs(observed - predicted) * rows).sum() / len(scores))


def calibration_bins(
    labels: np.ndarray, scores: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean score, share of positives, rows) of each bin, float64[at most `bins`]: rows in order
    of their scores, in bins of equal size.

    A bin that cuts rows of one score has their share of positives, whichever of them it holds.
    """
    order = np.argsort(scores, kind="stable")
    labels = np.asarray(labels, np.float64)[order]
    scores = np.asarray(scores, np.float64)[order]
    tied = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    sizes = np.diff(tied, append=len(scores))
    labels = np.repeat(np.add.reduceat(labels, tied) / sizes, sizes)
    parts = np.array_split(np.arange(len(scores)), min(bins, len(scores)))
    figures = [(scores[part].mean(), labels[part].mean(), len(part)) for part in parts]
    predicted, observed, rows = np.array(figures, np.float64).T
    return predicted, observed, rows


def predicted_over_observed(labels: np.ndarray, scores: np.ndarray) -> float:
    """Expected over observed positives; NaN without a positive."""
    observed = float(np.sum(labels))
    return float(np.sum(scores)) / observed if observed else float("nan")


RANGES: dict[Metric, tuple[float, float]] = {
    auc: (0.0, 1.0),
    average_precision: (0.0, 1.0),
    calibration_error: (0.0, 1.0),
    log_loss: (0.0, float("inf")),
    normalised_entropy: (0.0, float("inf")),
    predicted_over_observed: (0.0, float("inf")),
}
"""The values that each metric can take at all."""


def percentile_interval(draws: Sequence[float], confidence: float) -> tuple[float, float]:
    """The central interval that holds the share `confidence` of the draws; NaN without draws."""
    if not draws:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap(
    metric: Metric,
    labels: np.ndarray,
    scores: np.ndarray,
    confidence: float = 0.95,
    draws: int = DRAWS,
    users: np.ndarray | None = None,
) -> Estimate:
    """A metric of `RANGES` with its bias-shifted percentile interval, bootstrapped over users.

    The percentile interval (Efron & Tibshirani 1993) less the bootstrap's estimate of the bias:
    resampling alone makes a binned calibration error larger than it is. What is left in value and
    interval is the metric's own bias: a binned calibration error of a calibrated model is above 0,
    by about sqrt(2 bins p (1 - p) / (pi n)). The shift may lead out of the metric's range; the
    interval is clipped to it.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if not len(labels):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    found = metric(labels, scores)
    values = _resampled(metric, labels, scores, draws, users)
    low, high = np.clip(_shifted(found, values, confidence), *RANGES[metric])
    return Estimate(found, float(low), float(high), len(labels))


def metric_difference(
    metric: Metric,
    labels: np.ndarray,
    candidate: np.ndarray,
    baseline: np.ndarray,
    confidence: float = 0.95,
    users: np.ndarray | None = None,
) -> Estimate:
    """A metric of candidate minus baseline on the same rows, for metrics that are no mean of rows.

    The interval as `bootstrap` makes it, each draw of users taken for both.
    """
    labels, pair = np.asarray(labels), (np.asarray(candidate), np.asarray(baseline))
    if not len(labels):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    found = metric(labels, pair[0]) - metric(labels, pair[1])
    ours, theirs = (_resampled(metric, labels, each, DRAWS, users) for each in pair)
    low, high = _shifted(found, ours - theirs, confidence)
    return Estimate(found, low, high, len(labels))


def _resampled(
    metric: Metric,
    labels: np.ndarray,
    scores: np.ndarray,
    draws: int,
    users: np.ndarray | None,
) -> np.ndarray:
    """float64[draws]: the metric of the rows of users drawn anew, the same users at every call."""
    unit, count = units_of(len(labels), users)
    # Draws of rows in order of their scores are in order too, and sorting them again costs nothing.
    order = np.argsort(scores, kind="stable")
    labels, scores, unit = labels[order], scores[order], unit[order]
    rng, rows = np.random.default_rng(SEED), np.arange(len(labels))
    values: list[float] = []
    for _ in range(draws):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        pick = np.repeat(rows, times[unit])
        values.append(metric(labels[pick], scores[pick]))
    return np.array(values)


def _shifted(found: float, values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The percentile interval of the draws less their bias."""
    known: list[float] = values[~np.isnan(values)].tolist()
    bias = float(np.mean(known)) - found if known else float("nan")
    low, high = percentile_interval(known, confidence)
    return low - bias, high - bias


def paired_difference(
    labels: np.ndarray,
    candidate: np.ndarray,
    baseline: np.ndarray,
    confidence: float = 0.95,
    draws: int = 2000,
    users: np.ndarray | None = None,
) -> Estimate:
    """Mean log loss of candidate minus baseline on the same rows; < 0 is better.

    The percentile interval of a bootstrap over users.
    """
    gap = log_losses(labels, candidate) - log_losses(labels, baseline)
    unit, count = units_of(len(gap), users)
    total, rows = np.bincount(unit, gap), np.bincount(unit)
    rng = np.random.default_rng(SEED)
    picks = (rng.integers(0, count, count) for _ in range(draws))
    means = [float(total[pick].sum() / rows[pick].sum()) for pick in picks]
    return Estimate(float(gap.mean()), *percentile_interval(means, confidence), len(gap))


def effective_users(rows: int, users: np.ndarray | None) -> float:
    """How many users with equally many rows say as much as those of the rows do."""
    unit, _ = units_of(rows, users)
    return effective_size(np.bincount(unit))


def few_users(users: float) -> str:
    """Why so many effective users cannot be judged by; empty where they are enough."""
    return "" if users >= LEAST_USERS else f"{users:.1f} effective users, needs {LEAST_USERS:.0f}"


def effective_size(weights: np.ndarray) -> float:
    """(sum of weights)^2 / sum of their squares (Kish 1965): how many of equal weight say as much.

    0 where none has weight.
    """
    squares = float((weights.astype(np.float64) ** 2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def units_of(rows: int, users: np.ndarray | None) -> tuple[np.ndarray, int]:
    """(int[rows] number of each row's user, how many users there are)."""
    if users is None:
        return np.arange(rows), rows
    names, unit = np.unique(users, return_inverse=True)
    return unit, len(names)
