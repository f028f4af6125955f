import numpy as np
import pyarrow as pa
import pytest

from training.live import live_metrics


def test_a_table_and_arrays_give_the_same_metrics() -> None:
    rng = np.random.default_rng(1)
    scores = rng.beta(1, 4, 500)
    labels = (rng.random(500) < scores).astype(np.int32)
    arrays = live_metrics({"score": scores, "label": labels}, 0.95)
    assert arrays == live_metrics(pa.table({"score": scores, "label": labels}), 0.95)
    assert arrays["predicted_over_observed"].value == pytest.approx(scores.sum() / labels.sum())
    assert arrays["predicted_over_observed"].low < 1 < arrays["predicted_over_observed"].high


def test_less_confidence_is_a_narrower_interval() -> None:
    rng = np.random.default_rng(1)
    scores = rng.beta(1, 4, 500)
    rows = {"score": scores, "label": (rng.random(500) < scores).astype(np.int32)}
    narrow, wide = live_metrics(rows, 0.5), live_metrics(rows, 0.95)
    assert all(wide[m].low < narrow[m].low < narrow[m].high < wide[m].high for m in wide)


def test_without_a_positive_there_is_no_auc_and_no_calibration_but_a_log_loss() -> None:
    metrics = live_metrics({"score": np.full(20, 0.1), "label": np.zeros(20)}, 0.95)
    assert np.isnan(metrics["auc"].value)
    assert np.isnan(metrics["predicted_over_observed"].value)
    assert metrics["log_loss"].value == pytest.approx(-np.log(0.9))


def test_no_matured_rows_are_said_to_be_none() -> None:
    assert {0} == {e.n for e in live_metrics({"score": [], "label": []}, 0.95).values()}


def test_rows_that_have_not_matured_are_refused() -> None:
    rows = pa.table({"score": [0.1, 0.2], "label": pa.array([1, None], pa.int32())})
    with pytest.raises(ValueError, match="matured rows only"):
        live_metrics(rows, 0.95)
