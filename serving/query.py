"""A request for predictions as it is taken up, and what an arm makes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_contracts.predictions import prediction_ids
from serving.arms import Arm, Name, Snapshot
from serving.choices import Choice
from serving.features import Served
from serving.predict_body import PredictRequest
from serving.scorer import Scores


@dataclass(frozen=True)
class Query:
    """A request, and what it goes by from its beginning to its record."""

    use_case: str
    request: PredictRequest
    arrival: int
    """µs, by the system clock."""
    q_asked: int
    """µs: the time that it asks for."""
    keys: Sequence[str]
    """What tells all candidates apart, in their order."""
    rows: Sequence[Mapping[str, Any]]
    """The fields of each candidate that is scored: all but those that a rule drops."""
    choice: Choice | None
    snapshot: Snapshot
    unit: str
    """What is assigned to an arm as a whole."""
    assigned: Name | None
    """The arm of its unit; None where it belongs to none."""
    version: str | None
    """Who is asked by name, off policy."""

    def prediction_ids(self, version: str) -> list[str]:
        """Of all candidates in their order, where this version answers."""
        asked = self.use_case, version, self.request.request_id, self.keys
        return prediction_ids(*asked, off_policy=self.version is not None)


@dataclass(frozen=True)
class ArmInput:
    """What one arm scores: the features that it takes of the query's rows, encoded."""

    arm: Arm
    served: Served
    ids: np.ndarray
    """int64[rows, C]"""
    dense: np.ndarray
    """float32[rows, D]"""
    features_ms: float


@dataclass(frozen=True)
class Scored(ArmInput):
    """What it made of that."""

    scores: Scores

    @property
    def spent_ms(self) -> dict[str, float]:
        """Part of the answer -> its time."""
        return {
            "features": round(self.features_ms, 3),
            "queue": round(self.scores.queue_ms, 3),
            "model": round(self.scores.model_ms, 3),
        }
