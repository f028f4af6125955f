"""Pictures of a model on held-out rows: reliability, ROC, scores and slices, as PNG files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from data_contracts.evidence import Estimate, auc, calibration_bins
from training.evaluate import Slices


def draw(labels: np.ndarray, scores: Mapping[str, np.ndarray], folder: Path) -> None:
    """Write `reliability.png`, `roc.png` and `scores.png` over the scores (float[n]) of each named
    model."""
    folder.mkdir(parents=True, exist_ok=True)
    _reliability(labels, scores).savefig(folder / "reliability.png", dpi=110)
    _roc(labels, scores).savefig(folder / "roc.png", dpi=110)
    _histograms(labels, scores).savefig(folder / "scores.png", dpi=110)


def draw_slices(slices: Slices, folder: Path) -> None:
    """Write `slices.png`, a table of each part's rows and metrics with their intervals; nothing
    where no slices are declared."""
    if not slices:
        return
    metrics = list(dict.fromkeys(metric for each in slices.values() for metric in each))
    cells = [
        [name, f"{each['auc'].n:,}", *(_told(each.get(metric)) for metric in metrics)]
        for name, each in slices.items()
    ]
    figure = Figure(
        figsize=(2.4 + 2.1 * len(metrics), 0.28 * len(cells) + 0.7), layout="constrained"
    )
    axes = figure.subplots()
    axes.axis("off")
    heads = ["part", "rows", *(metric.replace("_", " ") for metric in metrics)]
    table = axes.table(cells, colLabels=heads, loc="center", cellLoc="right")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(heads))))
    figure.savefig(folder / "slices.png", dpi=110)


def _told(found: Estimate | None) -> str:
    if found is None or found.value != found.value:
        return ""
    interval = f" [{found.low:.3f}, {found.high:.3f}]" if found.low == found.low else ""
    return f"{found.value:.3f}{interval}"


def _reliability(labels: np.ndarray, scores: Mapping[str, np.ndarray], bins: int = 10) -> Figure:
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    top = 0.0
    for name, score in scores.items():
        predicted, observed, _ = calibration_bins(labels, score, bins)
        axes.plot(predicted, observed, marker="o", markersize=4, label=name)
        top = max(top, *predicted, *observed)
    axes.plot([0, top], [0, top], color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="predicted probability", ylabel="observed share", title="Reliability")
    axes.legend()
    return figure


def _roc(labels: np.ndarray, scores: Mapping[str, np.ndarray]) -> Figure:
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    positive = labels > 0
    for name, score in scores.items():
        # A threshold per distinct score: rows that tie move together.
        thresholds = np.concatenate(([np.inf], np.unique(score)[::-1]))
        hits = _share_above(score[positive], thresholds)
        alarms = _share_above(score[~positive], thresholds)
        axes.plot(alarms, hits, label=f"{name} (AUC {auc(labels, score):.3f})")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    axes.legend()
    return figure


def _histograms(labels: np.ndarray, scores: Mapping[str, np.ndarray]) -> Figure:
    figure = Figure(figsize=(5, 2 * len(scores) + 0.5), layout="constrained")
    columns = figure.subplots(len(scores), 1, squeeze=False, sharex=True)[:, 0]
    edges = np.linspace(0, max(float(score.max()) for score in scores.values()), 41)
    for axes, (name, score) in zip(columns, scores.items(), strict=True):
        for said, rows in (("negative", labels <= 0), ("positive", labels > 0)):
            share = np.histogram(score[rows], edges)[0] / max(int(rows.sum()), 1)
            axes.stairs(share, edges, fill=True, alpha=0.5, label=said)
        axes.set(ylabel="share of rows", title=name)
    columns[0].legend()
    columns[-1].set_xlabel("predicted probability")
    return figure


def _share_above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    below = np.searchsorted(np.sort(scores), thresholds, side="left")
    return 1 - below / max(len(scores), 1)
