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


def test_intervals_are_over_users_and_one_that_is_unknown_is_nobody_else() -> None:
    rng = np.random.default_rng(1)
    scores = rng.beta(1, 4, 40)
    labels = (rng.random(40) < scores).astype(np.int32)
    rows = {"score": scores.repeat(5), "label": labels.repeat(5)}
    users = pa.array([f"u{i}" for i in range(40)] + [None])
    named = pa.table({**rows, "user": users.take(pa.array(np.arange(40).repeat(5)))})
    unknown = pa.table({**rows, "user": users.take(pa.array([40] * 200))})
    wide, narrow = (live_metrics(table, 0.95, "user") for table in (named, unknown))
    assert narrow["auc"].high == pytest.approx(live_metrics(rows, 0.95)["auc"].high)
    for name in ("auc", "log_loss"):
        assert wide[name].high - wide[name].low > 1.5 * (narrow[name].high - narrow[name].low)
