"""Offline metrics on rows a model never saw, beside the constant and the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from deltalake import DeltaTable
from torch import nn

from data_contracts.delong import auc_difference, auc_interval
from data_contracts.evaluation import cut
from data_contracts.evidence import (
    Estimate,
    average_precision,
    bootstrap,
    calibration_error,
    log_loss,
    normalised_entropy,
    predicted_over_observed,
)
from data_contracts.lake import Lake
from data_contracts.ranking import grouped_auc, precision_at
from data_contracts.use_case import UseCase
from training.batches import Rows
from training.data import NoTrainingData

BOOTSTRAPPED = {
    "log_loss": log_loss,
    "normalised_entropy": normalised_entropy,
    "calibration_error": calibration_error,
    "predicted_over_observed": predicted_over_observed,
    "average_precision": average_precision,
}
SLICE_DRAWS = 200
_AT_ONCE = 16_384
"""Rows scored at once, so that memory does not grow with them."""


@dataclass(frozen=True)
class Held:
    """What judging knows of the test rows beside labels and inputs, in the same order."""

    users: np.ndarray | None
    requests: np.ndarray | None
    parts: Mapping[str, np.ndarray]
    """Name -> bool[n] of each part of the declared slices."""


Slices = dict[str, dict[str, Estimate]]
"""Part -> metric -> estimate."""


def read_held(use_case: UseCase, lake: Lake, delta_version: int, labels: np.ndarray) -> Held:
    """Users, requests and parts of the test rows of the training set at that version.

    `labels` float[n]: of the rows as they were scored, by which a different order shows.
    """
    declared, request = use_case.declared.evaluation, use_case.declared.request_field
    wanted = [*declared.columns, *([request] if request else [])]
    test = read_split(use_case, lake, delta_version, "test", wanted, labels)
    columns = {name: np.array(test[name].to_pylist(), object) for name in wanted}
    return Held(
        keys_of(columns[declared.user]) if declared.user else None,
        keys_of(columns[request]) if request else None,
        cut(declared, columns),
    )


def read_split(
    use_case: UseCase,
    lake: Lake,
    delta_version: int,
    split: str,
    wanted: Sequence[str],
    labels: np.ndarray,
) -> pa.Table:
    """The columns `wanted`, q (µs), event_id and label of a split's rows of the training set at
    that version, in the order of `Dataset.splits`.

    Raises NoTrainingData naming columns that it lacks, ValueError where its labels are others than
    `labels` float[n] of the rows as they were read before.
    """
    table = DeltaTable(lake.training_set, delta_version)
    if lacking := sorted(set(wanted) - {field.name for field in table.schema().fields}):
        raise NoTrainingData(
            f"{lake.training_set}: lacks {lacking}, by which use case {use_case.name} is judged: "
            f"run `headrace backfill --use-case {use_case.name}`"
        )
    names = list(dict.fromkeys([*wanted, "q", "event_id", "label"]))
    rows = table.to_pyarrow_table(columns=names, filters=pc.field("split") == split).sort_by(
        [("q", "ascending"), ("event_id", "ascending")]
    )
    if not np.array_equal(rows["label"].to_numpy(), labels):
        raise ValueError(
            f"{lake.training_set}: its {rows.num_rows} {split} rows are not the {len(labels)} that "
            "were scored, or lie in another order: train again"
        )
    return rows


def keys_of(values: np.ndarray) -> np.ndarray:
    """str[n]; a row without a value is of no key but its own."""
    own = (f"\0{row}" for row in range(len(values)))
    return np.array([key if v is None else str(v) for v, key in zip(values, own, strict=True)])


def predict(model: nn.Module, rows: Rows) -> np.ndarray:
    """float64[n]: the model's probabilities."""
    parts = [slice(at, at + _AT_ONCE) for at in range(0, len(rows.ids), _AT_ONCE)]
    with torch.inference_mode():
        logits = [
            model(torch.from_numpy(rows.ids[part]), torch.from_numpy(rows.dense[part]))
            for part in parts
        ]
        return torch.sigmoid(torch.cat(logits)).double().numpy()


def evaluate(
    labels: np.ndarray,
    scores: np.ndarray,
    confidence: float,
    draws: int = 400,
    users: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """AUC with DeLong's interval; the others of `BOOTSTRAPPED` (log loss in nats) with theirs.

    Over `users` [n] where they are known.
    """
    others = {
        name: bootstrap(metric, labels, scores, confidence, draws, users=users)
        for name, metric in BOOTSTRAPPED.items()
    }
    return {"auc": auc_interval(labels, scores, confidence, users), **others}


def evaluate_all(
    labels: np.ndarray,
    scores: Mapping[str, np.ndarray],
    confidence: float,
    held: Held | None = None,
    top: int = 5,
) -> dict[str, dict[str, Estimate]]:
    """`evaluate` for the scores of several models on the same rows.

    With `held` also `gauc` and `precision_at_<top>`, where users and requests are known and any
    of them ranks something.
    """
    users = held.users if held is not None else None
    found = {name: evaluate(labels, s, confidence, users=users) for name, s in scores.items()}
    if held is not None:
        for name, each in scores.items():
            ranked = _ranked(labels, each, confidence, held, top)
            found[name] |= {metric: value for metric, value in ranked.items() if value.n}
    return found


def evaluate_slices(
    labels: np.ndarray, scores: np.ndarray, held: Held, confidence: float, top: int = 5
) -> Slices:
    """`evaluate` on each part of the declared slices, and where the part's rows rank something
    `gauc` and `precision_at_<top>`, of its rows alone."""
    found: Slices = {}
    for name, mask in held.parts.items():
        users, requests = (
            None if each is None else each[mask] for each in (held.users, held.requests)
        )
        part = labels[mask], scores[mask]
        ranked = _ranked(*part, confidence, Held(users, requests, {}), top)
        found[name] = evaluate(*part, confidence, SLICE_DRAWS, users) | {
            metric: value for metric, value in ranked.items() if value.n
        }
    return found


def with_gains(
    metrics: Mapping[str, Mapping[str, Estimate]],
    labels: np.ndarray,
    scores: Mapping[str, np.ndarray],
    model: str,
    confidence: float,
    users: np.ndarray | None = None,
) -> dict[str, dict[str, Estimate]]:
    """The metrics, and for each model but `model` its `auc_gain`: how far `model`'s AUC is above.

    Paired on the same rows (DeLong).
    """
    gains = {
        name: {"auc_gain": auc_difference(labels, scores[model], each, confidence, users)}
        for name, each in scores.items()
        if name != model
    }
    return {name: {**each, **gains.get(name, {})} for name, each in metrics.items()}


def worst_slice(slices: Slices, least: int) -> str | None:
    """The part with the highest normalised entropy of those with `least` rows and both classes."""
    judged = {
        name: each["normalised_entropy"].value
        for name, each in slices.items()
        if each["auc"].n >= least and each["auc"].value == each["auc"].value
    }
    return max(judged, key=lambda name: judged[name]) if judged else None


def plain(metrics: Mapping[str, Mapping[str, Estimate]]) -> dict[str, dict[str, Any]]:
    """JSON-ready: name -> metric -> value, interval and rows."""
    return {
        name: {metric: estimate.as_dict() for metric, estimate in each.items()}
        for name, each in metrics.items()
    }


def _ranked(
    labels: np.ndarray, scores: np.ndarray, confidence: float, held: Held, top: int
) -> dict[str, Estimate]:
    found = {}
    if held.users is not None:
        found["gauc"] = grouped_auc(labels, scores, held.users, confidence)
    if held.requests is not None:
        found[f"precision_at_{top}"] = precision_at(
            top, labels, scores, held.requests, confidence, held.users
        )
    return found
