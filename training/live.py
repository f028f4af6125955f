"""Quality of served predictions whose labels have matured."""

from typing import Any, Protocol

import numpy as np

from data_contracts.evidence import Estimate
from training.evaluate import evaluate


class Outcomes(Protocol):
    """Anything with columns by name: an Arrow table, a data frame, a dict of arrays."""

    def __getitem__(self, name: str, /) -> Any: ...


def live_metrics(outcomes: Outcomes, confidence: float) -> dict[str, Estimate]:
    """The metrics of `evaluate` on served predictions.

    Columns `score` (probability) and `label` (0/1), one row per matured prediction; no rows give
    NaN with n = 0. Raises ValueError when a label is missing: those rows have not matured.
    """
    scores = np.asarray(outcomes["score"], np.float64)
    labels = np.asarray(outcomes["label"], np.float64)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("outcomes: label is not 0 or 1 in some row: pass matured rows only")
    return evaluate(labels, scores, confidence)
