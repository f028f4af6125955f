import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training.drift import LEAST, drift_report


def frame(n: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "score": rng.beta(1, 20, n),
            "count": rng.poisson(3, n).astype(float),
            "tail": rng.lognormal(1, 2, n),
            "moved": rng.normal(shift, 1, n),
            "constant": np.full(n, 2.0),
            "unknown": np.full(n, np.nan),
            "text": ["x"] * n,
        }
    )


def test_a_shifted_column_alarms_and_the_others_do_not(tmp_path: Path) -> None:
    reference, current = frame(3000, 0), frame(900, 1, shift=0.5)
    current.loc[:50, "score"] = np.nan
    result = drift_report(reference, current, tmp_path)
    assert set(result.drifted) == {"moved"}
    assert set(result.steady) == {"score", "count", "tail"}
    assert result.share == 0.25
    assert result.skipped == {
        "constant": "the same value in every row",
        "unknown": "without any finite value",
    }
    assert all(each.threshold >= LEAST for each in result.steady.values())
    assert result.html.read_text().lstrip().startswith("<")
    written = json.loads(result.json.read_text())
    assert written["drifted"]["moved"]["distance"] == result.drifted["moved"].distance
    assert written["rows"] == {"reference": 3000, "current": 900}


def test_small_samples_of_one_population_stay_quiet(tmp_path: Path) -> None:
    alarms = [
        len(drift_report(frame(200, seed), frame(60, 100 + seed), tmp_path).drifted)
        for seed in range(5)
    ]
    assert sum(alarms) <= 2


def test_a_constant_that_became_another_alarms(tmp_path: Path) -> None:
    reference, current = pd.DataFrame({"x": [1.0] * 50}), pd.DataFrame({"x": [2.0] * 50})
    assert set(drift_report(reference, current, tmp_path).drifted) == {"x"}


def test_an_empty_frame_and_frames_without_a_shared_number_are_refused(tmp_path: Path) -> None:
    some = frame(50, 0)
    with pytest.raises(ValueError, match="current holds no rows"):
        drift_report(some, some.iloc[:0], tmp_path)
    with pytest.raises(ValueError, match="no numeric column"):
        drift_report(some[["text"]], some[["text"]], tmp_path)
