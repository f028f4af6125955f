"""Stage drift: features as served against features as trained on."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from deltalake import DeltaTable

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.clock import SystemClock
from data_contracts.lake import Lake
from data_contracts.results import write_result
from training.drift import drift_report

HISTORY = "drift.jsonl"
"""One line a window: when it was judged (µs) and the share of inputs that drifted."""


def watch_drift(deployment: Deployment) -> dict[str, Any]:
    """Write the drift report and add its share to the history that the retrain sensor reads."""
    reporter().stage("drift report")
    lake, names = deployment.lake, list(deployment.use_case.feature_names)
    trained = DeltaTable(lake.training_set).to_pyarrow_table(
        columns=names, filters=[("split", "=", "train")]
    )
    served = DeltaTable(lake.predictions).to_pyarrow_table(columns=["features"])
    values = np.array(served["features"].to_pylist(), float).reshape(len(served), len(names))
    current = pd.DataFrame(dict(zip(names, values.T, strict=True)))
    found = drift_report(trained.to_pandas(), current, lake.reports)
    result = {
        "share": found.share,
        "drifted": {name: asdict(column) for name, column in found.drifted.items()},
        "compared": len(found.drifted) + len(found.steady),
        "skipped": dict(found.skipped),
        "html": str(found.html),
    }
    write_result(lake, "drift", result)
    with open(lake.reports / HISTORY, "a", encoding="utf-8") as history:
        history.write(json.dumps({"at": SystemClock().now(), "share": found.share}) + "\n")
    return result


def drift_shares(lake: Lake) -> list[float]:
    """The drifted share of every window so far, oldest first."""
    path = lake.reports / HISTORY
    if not path.is_file():
        return []
    return [json.loads(line)["share"] for line in path.read_text("utf-8").splitlines()]
