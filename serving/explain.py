"""Why a score is what it is: the features behind it, and what each input does to it.

By occlusion (Zeiler & Fergus 2014; Robnik-Sikonja & Kononenko 2008): an input is set back to its
declared default, the row scored again by the same graph, and the difference in log-odds told. What
inputs do together is in the difference of each of them, so the differences add up to no total.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from data_contracts.encoding import MISSING
from data_contracts.exploration import utilities
from data_contracts.use_case import UseCase
from serving.arms import Arm
from serving.auth import Role, demand
from serving.features import Served
from serving.problem import unprocessable

_log = logging.getLogger(__name__)

METHOD = "occlusion: log-odds of the score minus log-odds with this input at its default"
MOST_CANDIDATES = 5
"""Candidates with attributions, those of the highest scores; the features are told of all."""
MOST_ROWS = 1024
"""Rows that one explanation has scored; beyond them later candidates get no attributions."""


def asks_reasons(explain: str, roles: Collection[Role]) -> bool:
    """Whether a request with the query parameter `explain` wants an explanation; Problem 403
    without role operate: it shows what is stored of a user and how the model weighs it."""
    if explain not in ("0", "1"):
        raise unprocessable([("explain", "1 or 0")])
    if explain == "1":
        demand(roles, "operate", "explain")
    return explain == "1"


async def explanation(
    use_case: UseCase,
    arm: Arm,
    served: Served,
    rows: Sequence[Mapping[str, Any]],
    encoded: tuple[np.ndarray, np.ndarray],
    predictions: Sequence[Mapping[str, Any]],
    deadline: float,
) -> dict[str, Any]:
    """`features` and `inputs` of each row and `attributions` of some (shape: Explanation).

    `encoded`: ids int64[rows, C] and dense float32[rows, D] as they were scored, `predictions` what
    the answer says of them. Attributions are missing where the rows at their defaults could not be
    scored before `deadline` (monotonic, s).
    """
    names = arm.bundle.manifest.features
    candidates: list[dict[str, Any]] = [
        {
            "prediction_id": said["prediction_id"],
            "features": dict(zip(names, values, strict=True)),
            "inputs": row,
            "attributions": None,
        }
        for said, values, row in zip(predictions, served.values.tolist(), rows, strict=True)
    ]
    told: dict[str, Any] = {"method": METHOD, "candidates": candidates, "failed": None}
    occluded = _occluded(use_case, arm, encoded, [said["score"] for said in predictions])
    if not occluded:
        return told
    ids = np.concatenate([each[0] for each in occluded.values()])
    dense = np.concatenate([each[1] for each in occluded.values()])
    try:
        found = (await arm.scorer.score(ids, dense, deadline)).values
    except Exception as error:
        # The answer stands, and is logged: only the reasons for it are missing.
        _log.exception("explanation: no attributions")
        told["failed"] = str(error) or type(error).__name__
        return told
    odds, at = utilities(found), 0
    for row, (changed, _, fields) in occluded.items():
        own = odds[at : (at := at + len(changed))]
        nothing = dict.fromkeys(_fields(use_case, arm), 0.0)
        differences = (own[0] - own[1:]).tolist()
        candidates[row]["attributions"] = nothing | dict(zip(fields, differences, strict=True))
    return told


_Occluded = tuple[np.ndarray, np.ndarray, list[str]]
"""ids and dense of a row as it is and with one field after the other at its default; the fields."""


def _occluded(
    use_case: UseCase,
    arm: Arm,
    encoded: tuple[np.ndarray, np.ndarray],
    scores: Sequence[float],
) -> dict[int, _Occluded]:
    """Row -> what there is to score of it; the rows of the highest scores first."""
    fields, (ids, dense) = _fields(use_case, arm), encoded
    defaults = _defaults(use_case, arm)
    found: dict[int, _Occluded] = {}
    left = MOST_ROWS
    for row in sorted(range(len(scores)), key=lambda i: -scores[i])[:MOST_CANDIDATES]:
        own = ids[row], dense[row]
        given = [
            name
            for name, (categories, numbers) in fields.items()
            if (own[0][categories] != MISSING).any() or (own[1][numbers] != defaults[numbers]).any()
        ]
        if (left := left - len(given) - 1) < 0:
            break
        changed = tuple(np.repeat(each[None], len(given) + 1, axis=0) for each in own)
        for place, name in enumerate(given, 1):
            categories, numbers = fields[name]
            changed[0][place, categories] = MISSING
            changed[1][place, numbers] = defaults[numbers]
        found[row] = changed[0], changed[1], given
    return found


def _fields(use_case: UseCase, arm: Arm) -> dict[str, tuple[list[int], list[int]]]:
    """Input -> its columns of `ids` and of `dense`; a field may be both a category and a number."""
    spec, features = use_case.model, arm.bundle.manifest.features
    found: dict[str, tuple[list[int], list[int]]] = {}
    for column, name in enumerate((*features, *(number.field for number in spec.numeric))):
        found.setdefault(name, ([], []))[1].append(column)
    for column, category in enumerate(spec.categorical):
        found.setdefault(category.field, ([], []))[0].append(column)
    return found


def _defaults(use_case: UseCase, arm: Arm) -> np.ndarray:
    """float32[D]: `dense` of a row of which nothing is known."""
    reading = arm.reader.reading
    features = reading.vector([group.default_values()[None] for group in reading.groups])[0]
    numbers = [number.default for number in use_case.model.numeric]
    return np.concatenate([features, numbers]).astype(np.float32)
