"""Quality of served predictions whose labels have matured."""

from typing import Any, Protocol

import numpy as np

from data_contracts.evidence import Estimate
from training.evaluate import evaluate, keys_of


class Outcomes(Protocol):
    """Anything with columns by name: an Arrow table, a data frame, a dict of arrays."""

    def __getitem__(self, name: str, /) -> Any: ...


def live_metrics(
    outcomes: Outcomes, confidence: float, user: str | None = None
) -> dict[str, Estimate]:
    """The metrics of `evaluate` on served predictions, over the users in the column `user`.

    Columns `score` (probability) and `label` (0/1), one row per matured prediction; no rows give
    NaN with n = 0. Raises ValueError when a label is missing: those rows have not matured.
    """
    scores = np.asarray(outcomes["score"], np.float64)
    labels = np.asarray(outcomes["label"], np.float64)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("outcomes: label is not 0 or 1 in some row: pass matured rows only")
    users = None if user is None else keys_of(np.asarray(outcomes[user], object))
    return evaluate(labels, scores, confidence, users=users)
