"""A drift window is what was asked since the one before it, and nothing is judged twice."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from dagster_project.deployment import Deployment
from dagster_project.stages.drift import drift_windows, watch_drift
from data_contracts.results import read_result
from data_contracts.version_registry import Version
from data_contracts.views import digests_of, joint_digest
from training.registry import Registry

TIME = pa.timestamp("us", "UTC")


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A lake with a training set, and nothing served."""
    found = Deployment(root=tmp_path)
    names, rows = found.use_case.feature_names, values(found, 400, seed=0)
    columns = dict(zip(names, rows.T, strict=True))
    write_deltalake(found.lake.training_set, pa.table({**columns, "split": ["train"] * len(rows)}))
    return found


def values(deployment: Deployment, rows: int, seed: int, shift: float = 0.0) -> np.ndarray:
    width = len(deployment.use_case.feature_names)
    return np.random.default_rng(seed).normal(shift, 1, (rows, width))


def serve(
    deployment: Deployment, start: int, features: list[list[float] | None], definitions: str = ""
) -> None:
    """Add predictions asked at `start`, `start` + 1 … (µs), under the declared `definitions`."""
    declared = joint_digest(digests_of(deployment.use_case.groups))
    table = pa.table(
        {
            "q": pa.array(range(start, start + len(features)), TIME),
            "features": pa.array(features, pa.list_(pa.float64())),
            "definitions": [definitions or declared] * len(features),
        }
    )
    write_deltalake(deployment.lake.predictions, table, mode="append")


def test_a_window_holds_what_was_asked_after_the_previous_one(deployment: Deployment) -> None:
    reports = deployment.lake.reports
    serve(deployment, 1_000, [*values(deployment, 150, seed=1).tolist(), None])
    first = watch_drift(deployment)
    assert (150, True) == (first["predictions"], first["new_window"])
    assert first["share"] < 0.2
    assert reports / "drift" / "drift.html" == Path(first["html"])
    assert first == read_result(deployment.lake, "drift")

    serve(deployment, 2_000, [None])
    again = watch_drift(deployment)
    assert {**first, "new_window": False} == again == read_result(deployment.lake, "drift")
    assert 1 == len(drift_windows(deployment.lake))

    moving = values(deployment, 150, seed=2, shift=3.0).tolist()
    serve(deployment, 3_000, moving[:99])
    few = watch_drift(deployment)
    assert (99, False, 1) == (
        few["predictions"],
        few["new_window"],
        len(drift_windows(deployment.lake)),
    )
    serve(deployment, 3_099, moving[99:])
    moved = watch_drift(deployment)
    assert (150, True, 1.0) == (moved["predictions"], moved["new_window"], moved["share"])
    assert [first["share"], 1.0] == [share for _, share in drift_windows(deployment.lake)]
    lines = (reports / "drift.jsonl").read_text("utf-8").splitlines()
    assert [1_149, 3_149] == [json.loads(line)["until"] for line in lines]


@pytest.mark.parametrize(
    ("fitted_on", "definitions", "drifted"),
    [(0, "", True), (1, "", False), (0, "0" * 32, False), (7, "", False)],
    ids=["an older set", "the newest", "other definitions", "one that is gone"],
)
def test_the_reference_is_what_the_champion_was_fitted_on(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch,
    fitted_on: int, definitions: str, drifted: bool,
) -> None:  # fmt: skip
    """Whatever was trained since: the newest set holds what is served by now."""
    moved = values(deployment, 400, seed=3, shift=3.0)
    columns = dict(zip(deployment.use_case.feature_names, moved.T, strict=True))
    table = pa.table({**columns, "split": ["train"] * len(moved)})
    write_deltalake(deployment.lake.training_set, table, mode="overwrite")
    serve(deployment, 1_000, values(deployment, 150, seed=4, shift=3.0).tolist())
    declared = joint_digest(digests_of(deployment.use_case.groups))
    champion = Version("clicks", "1", "run", "ab", "fm", "pass", None, created=0)
    monkeypatch.setattr(Registry, "champion", lambda *_: champion)
    monkeypatch.setattr(Registry, "definitions", lambda *_: definitions or declared)
    monkeypatch.setattr(Registry, "trained_on", lambda *_: fitted_on)
    assert drifted == (watch_drift(deployment)["share"] > 0.9)


def test_no_window_without_any_prediction_under_the_declared_features(
    deployment: Deployment,
) -> None:
    serve(deployment, 1_000, [None])
    serve(deployment, 2_000, [[1.0]] * 150, "0" * 32)
    found = watch_drift(deployment)
    assert (0, 0, False) == (found["compared"], found["predictions"], found["new_window"])
    assert [] == drift_windows(deployment.lake)
