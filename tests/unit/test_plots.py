"""What the pictures of a model show, by their points."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from data_contracts.evidence import Estimate
from training.plots import _histograms, _reliability, _roc, draw_slices


def test_rows_of_one_score_are_one_point_of_the_reliability_diagram_in_whatever_order() -> None:
    labels = (np.arange(1000) < 100).astype(int)
    scores = {"constant": np.full(1000, 0.2), "two": np.where(np.arange(1000) % 5 == 0, 0.5, 0.1)}
    for order in (slice(None), slice(None, None, -1)):
        axes = _reliability(labels[order], {n: s[order] for n, s in scores.items()}).axes[0]
        shown = {line.get_label(): line.get_xydata() for line in axes.lines}
        points = {name: sorted({*map(tuple, np.round(shown[name], 9))}) for name in scores}
        assert {"constant": [(0.2, 0.1)], "two": [(0.1, 0.1), (0.5, 0.1)]} == points


def drawn(figure: Figure) -> dict[str, np.ndarray]:
    """The points of each line that has a name."""
    lines = {str(line.get_label()): line.get_xydata() for line in figure.axes[0].lines}
    return {name: np.asarray(each) for name, each in lines.items() if name[0] != "_"}


def test_a_roc_curve_has_a_point_per_distinct_score_and_the_area_that_it_names() -> None:
    labels = np.array([1, 0, 1, 0, 0, 1])
    scores = np.array([0.9, 0.9, 0.7, 0.4, 0.4, 0.2])
    ((name, points),) = drawn(_roc(labels, {"model": scores})).items()
    thirds = [(0, 0), (1, 1), (1, 2), (3, 2), (3, 3)]
    assert np.allclose(np.array(thirds) / 3, points)
    pairs = [(p > n) + (p == n) / 2 for p in scores[labels > 0] for n in scores[labels == 0]]
    assert f"model (AUC {np.mean(pairs):.3f})" == name
    assert f"{np.trapezoid(points[:, 1], points[:, 0]):.3f}" in name


def test_a_histogram_shows_the_share_of_each_class_at_each_score() -> None:
    labels = np.array([0] * 8 + [1] * 2)
    scores = {"low": np.array([0.1] * 6 + [0.3] * 4), "high": np.full(10, 0.8)}
    figure = _histograms(labels, scores)
    assert ["low", "high"] == [axes.get_title() for axes in figure.axes]
    expected = {
        "low": {"negative": {0.1: 0.75, 0.3: 0.25}, "positive": {0.3: 1.0}},
        "high": {"negative": {0.8: 1.0}, "positive": {0.8: 1.0}},
    }
    for axes in figure.axes:
        for patch in axes.patches:
            assert isinstance(patch, StepPatch)
            shares, edges = map(np.asarray, patch.get_data()[:2])
            bars = np.flatnonzero(shares)
            found = expected[axes.get_title()][str(patch.get_label())]
            assert {*map(float, shares[bars])} == {*found.values()}
            for score, share in found.items():
                (bar,) = [i for i in bars if edges[i] <= score < edges[i + 1] or i == 39]
                assert share == shares[bar]


def test_slices_are_a_table_of_each_part_s_rows_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: shown.append(figure))
    unknown = Estimate(float("nan"), float("nan"), float("nan"), 3)
    draw_slices(
        {"position=1": {"auc": Estimate(0.7, 0.6, 0.8, 1200)}, "2": {"auc": unknown}}, tmp_path
    )
    (table,) = shown[0].axes[0].tables
    cells = {place: cell.get_text().get_text() for place, cell in table.get_celld().items()}
    rows = [[cells[row, column] for column in range(3)] for row in range(3)]
    assert [
        ["part", "rows", "auc"],
        ["position=1", "1,200", "0.700 [0.600, 0.800]"],
        ["2", "3", ""],
    ] == rows  # fmt: skip
