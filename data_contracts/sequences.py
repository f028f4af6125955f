"""Confidence sequences and tests that hold at every look at once, so that one may look at will.

The normal mixture (Robbins 1970, Howard et al. 2021) in its asymptotic form (Waudby-Smith et al.
2024). Time is the number of impressions; the variance is the sum over *units* (users) of their
squared share of the total. A unit that comes back on many days is one draw, not many: its shares
move together, which only makes the sum's path smoother than the boundary supposes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, lgamma, log, log1p, sqrt
from typing import Any

import numpy as np

from data_contracts.evidence import Estimate

LEAST_UNITS = 200
"""Units each arm needs before anything is said: the sequences are asymptotic."""
PRIOR_UNITS = 1000
"""Weight, in units, of the prior around the planned share in the sample-ratio test."""


@dataclass(frozen=True)
class Sums:
    """All that a sequence needs of the matured rows up to a look."""

    total: float
    """Sum over strata of weight x difference."""
    weight: float
    """Impressions that the difference rests on."""
    variance: float
    """Of `total`: the sum over units of their squared, centred share of it."""
    level: float
    """Sum over strata of weight x what the champion has."""
    units: tuple[int, int]
    """Of champion and candidate."""
    impressions: int

    @property
    def difference(self) -> float:
        """Candidate minus champion, a mean over impressions; NaN without weight."""
        return self.total / self.weight if self.weight else float("nan")

    @property
    def champion(self) -> float:
        """The champion's mean with the same weights; NaN without."""
        return self.level / self.weight if self.weight else float("nan")

    @property
    def judgeable(self) -> bool:
        """Whether each arm has units enough."""
        return min(self.units) >= LEAST_UNITS and self.weight > 0

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, and enough to compute the interval again."""
        return asdict(self) | {"units": list(self.units)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Sums":
        """What `as_dict` gave, also after JSON."""
        units = int(raw["units"][0]), int(raw["units"][1])
        figures = (float(raw[name]) for name in ("total", "weight", "variance", "level"))
        return cls(*figures, units=units, impressions=int(raw["impressions"]))


def precision(tuned_at: float, alpha: float) -> float:
    """The mixture's precision with the narrowest boundary at time `tuned_at`, in its units.

    tuned_at / (-W(-alpha^2 / e) - 1), W the lower branch of Lambert's function.
    """
    root = fixed = 1 - 2 * log(alpha)
    for _ in range(20):
        root = fixed + log(root)
    return tuned_at / (root - 1)


def boundary(time: float, alpha: float, tuned_at: float) -> float:
    """Standard errors from the estimate to either end of the interval at `time` > 0."""
    rho = precision(tuned_at, alpha)
    return sqrt((1 + rho / time) * (log1p(time / rho) - 2 * log(alpha)))


def interval(sums: Sums, alpha: float, tuned_at: float) -> Estimate:
    """The difference with its interval, which misses the truth at any look in a share `alpha`.

    It is narrowest once `tuned_at` impressions of weight are in. Infinite ends while an arm has
    fewer than `LEAST_UNITS` units.
    """
    if not sums.judgeable:
        return Estimate(sums.difference, float("-inf"), float("inf"), sums.impressions)
    reach = boundary(sums.weight, alpha, tuned_at) * sqrt(sums.variance) / sums.weight
    found = sums.difference
    return Estimate(found, found - reach, found + reach, sums.impressions)


def arm_difference(
    units: np.ndarray,
    strata: np.ndarray,
    candidate: np.ndarray,
    impressions: np.ndarray,
    clicks: np.ndarray,
) -> Sums:
    """CTR of the candidate's arm minus the champion's, compared within strata.

    One row per (unit, stratum, assigned arm): ids of any kind [n], bool[n], counts [n] of matured
    impressions and their clicks. A stratum is an epoch and an hour: within it the split is fixed.
    """
    _, unit = np.unique(units, return_inverse=True)
    _, stratum = np.unique(strata, return_inverse=True)
    shares, weight, level = arm_shares(stratum, candidate, impressions, clicks)
    seen = impressions > 0
    return Sums(
        total=float(shares.sum()),
        weight=weight,
        variance=float((np.bincount(unit, shares) ** 2).sum()),
        level=level,
        units=(len(set(unit[seen & ~candidate])), len(set(unit[seen & candidate]))),
        impressions=int(impressions.sum()),
    )


def arm_shares(
    stratum: np.ndarray, candidate: np.ndarray, impressions: np.ndarray, clicks: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """(float64[n] share of each row in the total, weight, level); `stratum` int[n] from 0.

    A stratum weighs n0 n1 / (n0 + n1) impressions (Cochran-Mantel-Haenszel); without one of the
    arms it has no share.
    """
    shown = np.bincount(stratum, impressions)
    theirs = np.bincount(stratum, impressions * candidate)
    ours = shown - theirs
    weight = ours * theirs / np.maximum(shown, 1)
    rate = np.bincount(stratum, clicks) / np.maximum(shown, 1)
    level = weight * np.bincount(stratum, clicks * ~candidate) / np.maximum(ours, 1)
    lever = np.where(
        candidate,
        (weight / np.maximum(theirs, 1))[stratum],
        -(weight / np.maximum(ours, 1))[stratum],
    )
    return lever * (clicks - rate[stratum] * impressions), float(weight.sum()), float(level.sum())


def paired_gap(
    units: np.ndarray, gaps: np.ndarray, impressions: np.ndarray, champion: np.ndarray
) -> Sums:
    """Log loss of the candidate minus the champion's on the same matured, shown impressions.

    One row per unit or finer: ids [n], sums [n] over its impressions of the gap and of the
    champion's own log loss (nats), and how many impressions they are.
    """
    _, unit = np.unique(units, return_inverse=True)
    shown, total = float(impressions.sum()), float(gaps.sum())
    mean = total / shown if shown else 0.0
    shares = np.bincount(unit, gaps - mean * impressions)
    count = len(shares)
    squares = float((shares**2).sum())
    return Sums(total, shown, squares, float(champion.sum()), (count, count), int(shown))


@dataclass(frozen=True)
class Split:
    """Distinct units that one epoch decided about, all with the same chance.

    A unit that is new has the epoch's share; one that an earlier epoch of share p left with the
    champion has (share - p) / (1 - p), for a growing canary takes no unit back. A unit that is the
    candidate's already is decided and counts no more.
    """

    share: float
    """Chance to become the candidate's, as planned; 0 < share < 1."""
    candidate: int
    units: int


def sample_ratio(splits: Sequence[Split]) -> float:
    """Evidence against the planned split: at any look >= 1/alpha in a share alpha of true ones.

    A beta mixture's likelihood ratio (Lindon & Malek 2022), multiplied over the splits; infinite
    where it overflows.
    """
    found = 0.0
    for each in splits:
        a, b = PRIOR_UNITS * each.share, PRIOR_UNITS * (1 - each.share)
        x, y = each.candidate, each.units - each.candidate
        found += _log_beta(a + x, b + y) - _log_beta(a, b)
        found -= x * log(each.share) + y * log1p(-each.share)
    return exp(found) if found < 700 else float("inf")


@dataclass(frozen=True)
class Failures:
    """How many of the requests that an arm's own model was asked for it did not answer."""

    failed: int
    asked: int

    @property
    def share(self) -> float:
        """NaN where it was asked for none."""
        return self.failed / self.asked if self.asked else float("nan")


def more_failures(candidate: Failures, champion: Failures, limit: float) -> float:
    """Evidence, from 1 up, that the candidate fails more often than `limit` and than the champion:
    always valid (Johari et al. 2022), so at any look >= 1/alpha in a share alpha at most of those
    of which either is not so; infinite where it overflows.

    A beta mixture's likelihood (Robbins 1970) over the greatest that there is without the one, or
    without the other (universal inference, Wasserman et al. 2020), whichever is less: under what is
    true this is at most a martingale, to which Ville's inequality applies. The champion's share is
    unknown too, and not taken for what was seen of it. Requests are taken as independent.
    """
    both = candidate.failed + champion.failed, candidate.asked + champion.asked
    if not candidate.failed or candidate.share <= max(limit, both[0] / both[1]):
        return 1.0
    ours, theirs = _mixed(candidate), _mixed(champion)
    found = min(
        ours - _log_likelihood(candidate, limit),
        ours + theirs - _log_likelihood(Failures(*both), both[0] / both[1]),
    )
    return exp(max(found, 0.0)) if found < 700 else float("inf")


def _mixed(of: Failures) -> float:
    """Logarithm of the likelihood, mixed over Beta(1/2, 1/2)."""
    return _log_beta(of.failed + 0.5, of.asked - of.failed + 0.5) - _log_beta(0.5, 0.5)


def _log_likelihood(of: Failures, share: float) -> float:
    """Of a share below 1, with failures; -infinity where the share is 0."""
    return (of.failed * log(share) if share else float("-inf")) + (of.asked - of.failed) * log1p(
        -share
    )


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
