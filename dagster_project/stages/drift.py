"""Stage drift: features as served against features as trained on."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.clock import SystemClock
from data_contracts.lake import Lake
from data_contracts.results import read_result, write_result
from data_contracts.retrain import drift_alarm
from data_contracts.views import digests_of, joint_digest
from training.drift import drift_report
from training.registry import Registry

_NONE = {"share": 0.0, "drifted": {}, "compared": 0, "skipped": {}, "predictions": 0, "html": ""}
"""What is told before anything was served under the declared definitions."""
HISTORY = "drift.jsonl"
"""A line a window: when it was judged, the last q in it (both µs), the share of drifted inputs."""


def watch_drift(deployment: Deployment) -> dict[str, Any]:
    """Judge the predictions asked after the previous window, and add theirs to the history; fewer
    than `Retrain.least` are shown, and wait for the window of those that follow.

    Without any under the declared definitions, the last result comes back (at first one of nothing
    compared) with `new_window` False, and no window is added. See `_trained` for the reference.
    """
    reporter().stage("drift report")
    lake, names = deployment.lake, list(deployment.use_case.feature_names)
    windows = _windows(lake)
    declared = joint_digest(digests_of(deployment.use_case.groups))
    served = _served(lake, declared, windows[-1]["until"] if windows else None)
    if not len(served):
        last = {**(read_result(lake, "drift") if windows else _NONE), "new_window": False}
        write_result(lake, "drift", last)
        return last
    trained = _trained(deployment, declared).to_pyarrow_table(
        columns=names, filters=[("split", "=", "train")]
    )
    values = np.array(served["features"].to_pylist(), float).reshape(len(served), len(names))
    current = pd.DataFrame(dict(zip(names, values.T, strict=True)))
    found = drift_report(trained.to_pandas(), current, lake.reports / "drift")
    result = {
        "share": found.share,
        "drifted": {name: asdict(column) for name, column in found.drifted.items()},
        "compared": len(found.drifted) + len(found.steady),
        "skipped": dict(found.skipped),
        "predictions": len(served),
        "new_window": len(served) >= deployment.use_case.declared.retrain.least,
        "html": str(found.html),
    }
    write_result(lake, "drift", result)
    if not result["new_window"]:
        return result
    until = int(served["q"].cast(pa.int64()).to_numpy().max())
    window = {"at": SystemClock().now(), "until": until, "share": found.share}
    with open(lake.reports / HISTORY, "a", encoding="utf-8") as history:
        history.write(json.dumps(window) + "\n")
    return result


def alarm(deployment: Deployment, now: int) -> str | None:
    """Why to train again at `now` (µs), by the windows since the last version was registered."""
    windows = drift_windows(deployment.lake)
    if not windows:
        return None
    versions = Registry(deployment.lake).versions(deployment.use_case.name)
    trained = max((version.created for version in versions), default=None)
    return drift_alarm(deployment.use_case.declared.retrain, windows, now, trained)


def _trained(deployment: Deployment, declared: str) -> DeltaTable:
    """The training set that the champion was fitted on; as it is now where there is no champion of
    the `declared` definitions, and with a note where that version is gone."""
    lake, registry = deployment.lake, Registry(deployment.lake)
    newest = DeltaTable(lake.training_set)
    champion = registry.champion(deployment.use_case.name)
    if champion is None or registry.definitions(champion) != declared:
        return newest
    version = registry.trained_on(champion)
    try:
        return newest if version == newest.version() else DeltaTable(lake.training_set, version)
    except DeltaError:
        reporter().note(
            f"drift: {lake.training_set}: version {version}, on which the champion was fitted, is "
            "gone: what was served is compared with the newest"
        )
        return newest


def drift_windows(lake: Lake) -> list[tuple[int, float]]:
    """(when it was judged in µs, drifted share of its inputs) of every window, oldest first."""
    return [(window["at"], window["share"]) for window in _windows(lake)]


def _windows(lake: Lake) -> list[dict[str, Any]]:
    path = lake.reports / HISTORY
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _served(lake: Lake, definitions: str, after: int | None) -> pa.Table:
    """`q` and `features` of the predictions with q > `after` made under those definitions."""
    wanted = pc.field("features").is_valid() & (pc.field("definitions") == definitions)
    if after is not None:
        wanted &= pc.field("q") > pa.scalar(after, pa.timestamp("us", "UTC"))
    table = DeltaTable(lake.predictions)
    return table.to_pyarrow_table(columns=["q", "features"], filters=wanted)
