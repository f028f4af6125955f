"""How good the models of a training are on the test rows, each beside the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_contracts.evidence import Estimate
from training.basis import Basis
from training.evaluate import (
    Held,
    Slices,
    evaluate_all,
    evaluate_slices,
    plain,
    predict,
    read_held,
    with_gains,
    worst_slice,
)
from training.fitted import Fitted
from training.models.linear import Constant
from training.models.names import TWO_TOWER
from training.recall import with_recall

CONSTANT = "constant"


@dataclass(frozen=True)
class Evaluated:
    """Scores of the test rows, and what they say."""

    scores: Mapping[str, np.ndarray]
    """Each fitted model and `CONSTANT`, the base rate -> float64[n]."""
    held: Held
    metrics: Mapping[str, Mapping[str, Estimate]]
    """Of the same -> `training.evaluate.evaluate_all`, and of two towers `training.recall`."""
    not_retrieved: str | None
    """Why two towers are no retrieval model of this use case."""
    slices: Slices
    """The trained model's metrics on each part of the declared slices."""
    worst_slice: str | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, without the scores."""
        told: dict[str, Any] = {
            "models": plain(self.metrics),
            "slices": plain(self.slices),
            "worst_slice": self.worst_slice,
        }
        if self.not_retrieved:
            told["not_retrieved"] = self.not_retrieved
        return told


def evaluated(basis: Basis, fitted: Mapping[str, Fitted]) -> Evaluated:
    """The `fitted` models beside the constant; gains, slices and recall are those of the model that
    is trained."""
    use_case, dataset, model, test = basis.use_case, basis.dataset, basis.model, basis.test
    confidence, judging = use_case.declared.gates.confidence, use_case.declared.evaluation
    scores = {name: predict(each.model, test) for name, each in fitted.items()}
    scores[CONSTANT] = predict(Constant(dataset.seen(basis.chosen.spec)), test)
    held = read_held(use_case, basis.lake, dataset.delta_version, test.labels)
    metrics = evaluate_all(test.labels, scores, confidence, held, judging.top)
    metrics = with_gains(metrics, test.labels, scores, model, confidence, held.users)
    not_retrieved: str | None = None
    if model == TWO_TOWER:
        metrics, not_retrieved = with_recall(
            metrics, use_case, basis.lake, dataset, fitted[model].model, held.users
        )
    slices = evaluate_slices(test.labels, scores[model], held, confidence, judging.top)
    worst = worst_slice(slices, judging.least)
    return Evaluated(scores, held, metrics, not_retrieved, slices, worst)
