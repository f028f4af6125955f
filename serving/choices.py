"""What a use case chooses about its answers: in which order the candidates are to be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_contracts.exploration import candidate_key, drawn, seed_of, utilities
from data_contracts.use_case import UseCase


@dataclass(frozen=True)
class Choice:
    """The order of one answer."""

    ranks: list[int]
    """Per row its place, from 1."""
    record: dict[str, Any]
    """What the prediction log keeps of it: `ranks`, and all of which its chance follows."""

    def stamped(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer (shape: PredictResponse) with the places of its rows."""
        for prediction, rank in zip(answer["predictions"], self.ranks, strict=True):
            prediction["rank"] = rank
        return answer


class Choices:
    """The choices of one use case."""

    def __init__(self, use_case: UseCase) -> None:
        self._use_case = use_case
        self._exploration = use_case.declared.exploration

    def made(
        self, request_id: str, rows: Sequence[Mapping[str, Any]], scores: np.ndarray
    ) -> Choice | None:
        """The order of rows with these scores (float64[rows]); None where none is declared."""
        declared = self._exploration
        if declared is None:
            return None
        keys = [candidate_key(self._use_case.identity, row) for row in rows]
        seed = seed_of(self._use_case.name, request_id)
        slate = drawn(declared, utilities(scores), keys, seed)
        ranks = [0] * len(rows)
        for place, row in enumerate(slate.order, 1):
            ranks[row] = place
        record = {
            "ranks": ranks,
            "seed": seed,
            "temperature": declared.temperature,
            "slot_propensities": slate.propensities,
            "slate_propensity": slate.propensity,
        }
        return Choice(ranks, record)
