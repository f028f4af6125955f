"""Metrics of rankings: within a user, and among the candidates of a request."""

from dataclasses import replace

import numpy as np

from data_contracts.evidence import DRAWS, SEED, Estimate, percentile_interval, units_of


def grouped_auc(
    labels: np.ndarray, scores: np.ndarray, users: np.ndarray, confidence: float = 0.95
) -> Estimate:
    """GAUC: mean of the users' AUCs by their number of rows (Zhu et al. 2017).

    Users with one class only rank nothing and are left out; `n` is the number of the others, over
    whom the interval is bootstrapped.
    """
    _, user = np.unique(users, return_inverse=True)
    order = np.lexsort((scores, user))
    user, hit = user[order], (np.asarray(labels) > 0)[order]
    rows = np.bincount(user)
    first = np.cumsum(rows) - rows
    positives = np.bincount(user, hit)
    pairs = positives * (rows - positives)
    rank = _midranks(_runs(user, np.asarray(scores)[order])) - first[user]
    wins = np.bincount(user, rank * hit) - positives * (positives + 1) / 2
    kept = pairs > 0
    weight = rows[kept].astype(np.float64)
    return ratio(weight * wins[kept] / pairs[kept], weight, confidence)


def precision_at(
    k: int,
    labels: np.ndarray,
    scores: np.ndarray,
    requests: np.ndarray,
    confidence: float = 0.95,
    users: np.ndarray | None = None,
) -> Estimate:
    """Share of positives among the k highest scores of a request; ties take their expected hits.

    Requests of at most k rows rank nothing and are left out; `n` is the number of the others. The
    interval is over `users` [rows], the one of a request's first row each; over requests without.
    """
    _, first, request = np.unique(requests, return_index=True, return_inverse=True)
    order = np.lexsort((-np.asarray(scores), request))
    request, hit = request[order], (np.asarray(labels) > 0)[order]
    rows = np.bincount(request)
    run = _runs(request, np.asarray(scores)[order])
    same = np.bincount(run)
    above = np.cumsum(same)[run] - same[run] - (np.cumsum(rows) - rows)[request]
    found = np.bincount(request, hit * hits_at(k, above, same[run]))[rows > k]
    unit, _ = units_of(len(found), None if users is None else np.asarray(users)[first][rows > k])
    shown = np.bincount(unit) * float(k)
    return replace(ratio(np.bincount(unit, found), shown, confidence), n=len(found))


def hits_at(k: int, above: np.ndarray, same: np.ndarray) -> np.ndarray:
    """float64[n]: the probability that each choice is among the first k candidates.

    `above` float[n] counts those with a higher score, infinite where the choice is no candidate;
    `same` those with its own, itself among them, which come in any order.
    """
    return np.clip((k - above) / same, 0.0, 1.0)


def mean_over_users(
    values: np.ndarray, users: np.ndarray | None, confidence: float = 0.95
) -> Estimate:
    """Mean of `values` float[n], its interval over `users` [n]; over rows without."""
    unit, _ = units_of(len(values), users)
    found = ratio(np.bincount(unit, values), np.bincount(unit).astype(float), confidence)
    return replace(found, n=len(values))


def ratio(over: np.ndarray, under: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Sum of `over` by sum of `under` (float[n]), bootstrapped over their entries; NaN without."""
    if not len(over):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(SEED)
    found: list[float] = []
    for _ in range(DRAWS):
        pick = rng.integers(0, len(over), len(over))
        found.append(float(over[pick].sum() / under[pick].sum()))
    value = float(over.sum() / under.sum())
    return Estimate(value, *percentile_interval(found, confidence), len(over))


def _runs(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """int[n]: number of the run of equal values, of rows sorted by (group, value)."""
    fresh = (group[1:] != group[:-1]) | (values[1:] != values[:-1])
    return np.concatenate(([0], np.cumsum(fresh))) if len(group) else np.zeros(0, np.int64)


def _midranks(run: np.ndarray) -> np.ndarray:
    """float64[n]: midranks from 1 of rows in these runs, counted through all groups."""
    counts = np.bincount(run)
    return (np.cumsum(counts) - (counts - 1) / 2)[run]
