"""What other orders would have been worth, from the slates that a use case drew and logged."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data_contracts.exploration import candidate_key, followed, propensities, utilities
from data_contracts.off_policy import OffPolicyValue, no_value, slate_value
from training.evaluate import keys_of

_Row = Mapping[str, Any]
_Policy = Callable[[Sequence[_Row], Sequence[str], Sequence[int]], list[float]]
"""(rows of a request, their keys, those in the explored slots) to the chance of each of these in
its turn."""


def explored_values(
    predictions: pa.Table, identity: Sequence[str], confidence: float, user: str | None = None
) -> dict[str, OffPolicyValue]:
    """Target policy to its value: mean positives of the explored slots of a slate.

    `predictions`: every candidate of explored requests as in `lake.predictions`, with `label` (null
    where there is no outcome), `shadow_version` and `shadow_score`. Targets are `drawn` (as it was
    logged), `by score` (the same scores, no draw) and, for a version that scored copies of whole
    requests, `version N` (its scores, drawn at the temperature of the log).

    What rules add to a score (`boost`) stays as it was logged. A slate counts as read down to its
    last slot above which no outcome is missing. Intervals are over the users in the column `user`,
    over slates without.
    """
    slates = _slates(predictions)
    copied: dict[str, list[list[_Row]]] = defaultdict(list)
    for rows in slates:
        versions = {row["shadow_version"] for row in rows}
        if len(versions) == 1 and (version := versions.pop()) is not None:
            copied[version].append(rows)
    found = {"drawn": (slates, _logged), "by score": (slates, _by_score)}
    shadow = _drawn_by("shadow_score")
    found |= {f"version {version}": (theirs, shadow) for version, theirs in copied.items()}
    return {
        name: slate_value(
            *_arrays(rows, identity, policy), confidence=confidence, users=_users(rows, user)
        )
        for name, (rows, policy) in found.items()
        if rows
    }


def unserved_value(
    predictions: pa.Table, identity: Sequence[str], confidence: float, user: str | None = None
) -> tuple[OffPolicyValue, dict[str, int]]:
    """The value of a version that answered none of the slates, drawn by its scores at the
    temperature of the log, and why other slates were left out to how many.

    `predictions`: as for `explored_values`, with the columns of `logged_scores.with_scores`.
    """
    left_out: Counter[str] = Counter()
    slates: list[list[_Row]] = []
    for rows in _slates(predictions):
        if why := next(filter(None, (row["left_out"] for row in rows)), None):
            left_out[why] += 1
        else:
            slates.append(rows)
    if not slates:
        told = ", ".join(f"{count:,} {why}" for why, count in left_out.items())
        return no_value(f"no slate is left: {told or 'none has its label yet'}"), dict(left_out)
    arrays = _arrays(slates, identity, _drawn_by("own_score"))
    value = slate_value(*arrays, confidence=confidence, users=_users(slates, user))
    return value, dict(left_out)


def _slates(predictions: pa.Table) -> list[list[_Row]]:
    """The rows of each draw whose first outcome is known, in the order that was shown."""
    requests: dict[tuple[str, str], list[_Row]] = defaultdict(list)
    for row in predictions.to_pylist():
        requests[row["request_id"], row["version"]].append(row)
    slates = [sorted(rows, key=lambda row: row["rank"]) for rows in requests.values()]
    # Two calls by one request id, about other candidates, were two draws.
    return [rows for rows in slates if _one_draw(rows) and rows[0]["label"] is not None]


def _one_draw(rows: Sequence[_Row]) -> bool:
    whole = [row["rank"] for row in rows] == [*range(1, len(rows) + 1)]
    return whole and len({row["slate_propensity"] for row in rows}) == 1


def _arrays(
    slates: Sequence[Sequence[_Row]], identity: Sequence[str], policy: _Policy
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float64[slates, slots] rewards, chances under the log and under `policy`; NaN below."""
    explored = [[row for row in rows if row["slot_propensity"] is not None] for rows in slates]
    shape = len(slates), max(map(len, explored))
    rewards, logged, target = (np.full(shape, np.nan) for _ in range(3))
    for i, (rows, slots) in enumerate(zip(slates, explored, strict=True)):
        keys = [candidate_key(identity, row) for row in rows]
        chances = policy(rows, keys, range(len(slots)))
        for j, (row, chance) in enumerate(zip(slots, chances, strict=True)):
            if row["label"] is None:
                break
            rewards[i, j], logged[i, j] = row["label"], row["slot_propensity"]
            target[i, j] = chance
    read = ~np.isnan(rewards).all(axis=0)
    return rewards[:, read], logged[:, read], target[:, read]


def _users(slates: Sequence[Sequence[_Row]], user: str | None) -> np.ndarray | None:
    """str[slates]: whose each is."""
    if user is None:
        return None
    return keys_of(np.array([rows[0][user] for rows in slates], object))


def _logged(rows: Sequence[_Row], _: Sequence[str], first: Sequence[int]) -> list[float]:
    return [rows[i]["slot_propensity"] for i in first]


def _by_score(rows: Sequence[_Row], keys: Sequence[str], first: Sequence[int]) -> list[float]:
    return followed(_utilities(rows, "score"), keys, first)


def _drawn_by(column: str) -> _Policy:
    """Who draws by the scores in that column, at the temperature of the log."""
    return lambda rows, _, first: propensities(
        _utilities(rows, column), first, rows[0]["temperature"]
    )


def _utilities(rows: Sequence[_Row], column: str) -> np.ndarray:
    return utilities([row[column] for row in rows], np.array([row["boost"] for row in rows]))
