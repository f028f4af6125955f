"""Offline metrics on rows a model never saw, beside the constant and the baseline."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from data_contracts.evidence import Estimate, auc, bootstrap, calibration_error, log_loss
from training.data import Rows

METRICS = {"auc": auc, "log_loss": log_loss, "calibration_error": calibration_error}


def predict(model: nn.Module, rows: Rows) -> np.ndarray:
    """float64[n]: the model's probabilities."""
    with torch.inference_mode():
        logits = model(torch.from_numpy(rows.ids), torch.from_numpy(rows.dense))
        return torch.sigmoid(logits).double().numpy()


def evaluate(labels: np.ndarray, scores: np.ndarray, confidence: float) -> dict[str, Estimate]:
    """AUC, log loss (nats) and expected calibration error with bootstrap intervals."""
    return {name: bootstrap(metric, labels, scores, confidence) for name, metric in METRICS.items()}


def evaluate_all(
    labels: np.ndarray, scores: Mapping[str, np.ndarray], confidence: float
) -> dict[str, dict[str, Estimate]]:
    """`evaluate` for the scores of several models on the same rows."""
    return {name: evaluate(labels, each, confidence) for name, each in scores.items()}
