"""Off-policy value of a policy from another policy's log with known propensities.

Where `users` are given, of each row or slate, intervals and doubt are over users.
"""

from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from data_contracts.evidence import (
    SEED,
    Estimate,
    effective_size,
    few_users,
    percentile_interval,
    units_of,
)

LEAST_EFFECTIVE = 200.0
"""Effective rows below which the estimates are a few rows' luck."""
MOST_OF_ALL = 0.05
"""Share of the whole weight that one row may carry."""
SURE = 0.999
"""Confidence with which weights that do not average 1 are called wrong."""
STRENGTH, FOLDS = 100.0, 3
"""Of a reward model: its prior's weight in rows, and in how many parts it is cross-fitted."""


@dataclass(frozen=True)
class Modelled:
    """Rewards that a model expects, made without the row's own reward (cross-fitted)."""

    logged: np.ndarray
    """float[n]: of the logged action."""
    target: np.ndarray
    """float[n]: of what the target policy would do, averaged over its actions."""


@dataclass(frozen=True)
class OffPolicyValue:
    """Estimates of the mean reward under the target policy, and whether they can be trusted."""

    ips: Estimate
    snips: Estimate
    dm: Estimate | None
    """Direct method: the model alone, whose interval knows nothing of the model's bias."""
    dr: Estimate | None
    effective_sample_size: float
    effective_users: float
    """By the weight that each has; rows where users are not known."""
    max_weight: float
    mean_weight: float
    """1 up to chance, where the log has all that the target does and its propensities are true."""
    doubt: str | None
    """Why the overlap of the policies is too poor, or of too few users, to judge by."""
    logged: Estimate | None = None
    """Of slates: what the logged order earned on the same ones."""
    gain: Estimate | None = None
    """Of slates: how far SNIPS is above `logged`, both in the same draws."""

    @property
    def verdict(self) -> str:
        """`cannot judge` where there is doubt, else `can judge`."""
        return "cannot judge" if self.doubt else "can judge"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: estimates as `Estimate.as_dict` gives them."""
        names = ("ips", "snips", "dm", "dr", "logged", "gain")
        known = {name: getattr(self, name) for name in names}
        estimates = {name: each.as_dict() for name, each in known.items() if each}
        return {**asdict(self), **dict.fromkeys(known), **estimates, "verdict": self.verdict}


def off_policy_value(
    rewards: np.ndarray,
    logged: np.ndarray,
    target: np.ndarray,
    confidence: float = 0.95,
    draws: int = 1000,
    modelled: Modelled | None = None,
    users: np.ndarray | None = None,
) -> OffPolicyValue:
    """IPS (Horvitz & Thompson 1952), SNIPS (Swaminathan & Joachims 2015), bootstrap intervals.

    `rewards` float[n]; `logged` and `target`: probability of the logged action under each policy.
    With `modelled` also the direct method and the doubly robust estimate (Dudik et al. 2011).
    Raises ValueError when a logged probability is not in (0, 1].
    """
    _check(rewards, logged)
    weight = target / logged
    unit, _ = units_of(len(rewards), users)
    summed = {"ips": weight * rewards, "weight": weight}
    if modelled is not None:
        summed["dm"] = modelled.target
        summed["dr"] = modelled.target + weight * (rewards - modelled.logged)
    columns = np.column_stack(list(summed.values()))
    found = _means(columns, unit, draws)
    n, means = len(rewards), dict(zip(summed, columns.mean(axis=0), strict=True))
    drawn = dict(zip(summed, found.T, strict=True))
    kept = drawn["weight"] > 0
    normalised = means["ips"] / means["weight"] if means["weight"] else float("nan")

    def estimate(value: float, values: np.ndarray) -> Estimate:
        return Estimate(float(value), *percentile_interval(values.tolist(), confidence), n)

    return OffPolicyValue(
        ips=estimate(means["ips"], drawn["ips"]),
        snips=estimate(normalised, drawn["ips"][kept] / drawn["weight"][kept]),
        dm=estimate(means["dm"], drawn["dm"]) if modelled else None,
        dr=estimate(means["dr"], drawn["dr"]) if modelled else None,
        effective_sample_size=effective_size(weight),
        effective_users=effective_size(np.bincount(unit, weight)),
        max_weight=float(weight.max()),
        mean_weight=float(means["weight"]),
        doubt=_doubt(weight, unit),
    )


def slate_value(
    rewards: np.ndarray,
    logged: np.ndarray,
    target: np.ndarray,
    confidence: float = 0.95,
    draws: int = 1000,
    users: np.ndarray | None = None,
) -> OffPolicyValue:
    """Mean reward of a slate that is read from the top: cascade weights (McInerney et al. 2020).

    All float[n, slots], NaN where a slate has no such slot; the probability of a slot's item is
    given the items above it, and a slot's reward is weighted by the product down to it. Effective
    rows, weights and doubt are those of the worst slot. No model: `dm` and `dr` are None.
    """
    there = ~np.isnan(rewards)
    _check(rewards[there], logged[there])
    weight = np.cumprod(np.where(there, target / np.where(there, logged, 1.0), 1.0), axis=1)
    gained = np.where(there, weight * np.where(there, rewards, 0.0), 0.0)
    slots = rewards.shape[1]
    own = np.where(there, rewards, 0.0).sum(axis=1, keepdims=True)
    columns = np.concatenate([gained, np.where(there, weight, 0.0), there, own], axis=1)
    unit, _ = units_of(len(rewards), users)
    found, means = _means(columns, unit, draws), columns.mean(axis=0)

    def normalised(sums: np.ndarray) -> np.ndarray:
        over, under, share = np.split(np.atleast_2d(sums)[:, :-1], 3, axis=1)
        parts = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
        return (parts * share).sum(axis=1)

    each = [(weight[read, slot], unit[read]) for slot, read in enumerate(there.T)]
    worst, whose = min(each, key=lambda slot: effective_size(slot[0]))
    n, snips, drawn = len(rewards), float(normalised(means)[0]), normalised(found)

    def estimate(value: float, values: np.ndarray) -> Estimate:
        return Estimate(value, *percentile_interval(values.tolist(), confidence), n)

    return OffPolicyValue(
        ips=estimate(float(gained.sum(axis=1).mean()), found[:, :slots].sum(axis=1)),
        snips=estimate(snips, drawn),
        dm=None,
        dr=None,
        effective_sample_size=effective_size(worst),
        effective_users=effective_size(np.bincount(whose, worst)),
        max_weight=max(float(slot.max()) for slot, _ in each),
        mean_weight=float(worst.mean()),
        doubt=next(filter(None, (_doubt(*slot) for slot in each)), None),
        logged=estimate(float(means[-1]), found[:, -1]),
        gain=estimate(snips - float(means[-1]), drawn - found[:, -1]),
    )


def no_value(doubt: str) -> OffPolicyValue:
    """Of a policy for which no row is left."""
    none = Estimate(float("nan"), float("nan"), float("nan"), 0)
    return OffPolicyValue(none, none, None, None, 0.0, 0.0, 0.0, 0.0, doubt, none, none)


def tabular_model(
    rewards: np.ndarray,
    cell: np.ndarray,
    place: np.ndarray,
    probability: np.ndarray,
    users: np.ndarray | None = None,
) -> Modelled:
    """A reward model of one mean per cell, smoothed towards the mean of all, cross-fitted: a user's
    rows are one fold's, and nothing is expected of a fold beside which there are no rows.

    `cell` int[n]: which (action, place) was logged; `place` int[cells] and `probability`
    float[cells]: where each cell is, and how often the target chooses it there.
    """
    unit, count = units_of(len(rewards), users)
    fold = np.random.default_rng(SEED).integers(0, FOLDS, count)[unit]
    cells, places = len(place), int(place.max()) + 1
    means, expected = np.zeros((FOLDS, cells)), np.zeros((FOLDS, places))
    for each in range(FOLDS):
        others = fold != each
        prior = STRENGTH * (rewards[others].mean() if others.any() else 0.0)
        hits = np.bincount(cell[others], rewards[others], minlength=cells)
        means[each] = (hits + prior) / (np.bincount(cell[others], minlength=cells) + STRENGTH)
        expected[each] = np.bincount(place, probability * means[each], minlength=places)
    return Modelled(means[fold, cell], expected[fold, place[cell]])


def _check(rewards: np.ndarray, logged: np.ndarray) -> None:
    if not len(rewards) or not ((logged > 0) & (logged <= 1)).all():
        raise ValueError("off-policy value: needs rows, each with a logged propensity in (0, 1]")


def _means(columns: np.ndarray, unit: np.ndarray, draws: int) -> np.ndarray:
    """float[draws, columns]: their means over the rows of units drawn with replacement."""
    rows = np.bincount(unit)
    sums = np.column_stack([np.bincount(unit, column) for column in columns.T])
    rng, count = np.random.default_rng(SEED), len(rows)
    found: list[np.ndarray] = []
    for _ in range(draws):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        found.append(times @ sums / (times @ rows))
    return np.array(found)


def _doubt(weight: np.ndarray, unit: np.ndarray) -> str | None:
    effective, total = effective_size(weight), float(weight.sum())
    if effective < LEAST_EFFECTIVE:
        return f"{effective:.0f} effective rows of {len(weight)}, needs {LEAST_EFFECTIVE:.0f}"
    if (most := float(weight.max()) / total) > MOST_OF_ALL:
        return f"one row carries {most:.0%} of all weight, at most {MOST_OF_ALL:.0%} may"
    if few := few_users(effective_size(np.bincount(unit, weight))):
        return few
    shares = np.bincount(unit, weight - weight.mean())
    error = float((shares**2).sum()) ** 0.5 / len(weight)
    reach = NormalDist().inv_cdf((1 + SURE) / 2) * error
    if abs(mean := float(weight.mean()) - 1) > reach:
        return (
            f"weights average {mean + 1:.3f}, not 1: the propensities are not the log's, or the "
            "target does what the log never did"
        )
    return None
