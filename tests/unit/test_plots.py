"""What the pictures of a model show, by their points."""

import numpy as np

from training.plots import _reliability


def test_rows_of_one_score_are_one_point_of_the_reliability_diagram_in_whatever_order() -> None:
    labels = (np.arange(1000) < 100).astype(int)
    scores = {"constant": np.full(1000, 0.2), "two": np.where(np.arange(1000) % 5 == 0, 0.5, 0.1)}
    for order in (slice(None), slice(None, None, -1)):
        axes = _reliability(labels[order], {n: s[order] for n, s in scores.items()}).axes[0]
        shown = {line.get_label(): line.get_xydata() for line in axes.lines}
        points = {name: sorted({*map(tuple, np.round(shown[name], 9))}) for name in scores}
        assert {"constant": [(0.2, 0.1)], "two": [(0.1, 0.1), (0.5, 0.1)]} == points
