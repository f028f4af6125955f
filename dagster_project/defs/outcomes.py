"""Outcomes: what was served, what came of it, and how far it is from what was trained on."""

import dagster as dg

from dagster_project.partitions import deployment
from dagster_project.stages.drift import watch_drift
from dagster_project.stages.events import conserved
from dagster_project.stages.outcomes import join_outcomes, value_policies
from dagster_project.stages.predictions import replay_held_out
from data_contracts.results import read_result


@dg.asset(
    deps=["model", "online_state"],
    group_name="serving",
    kinds={"ray", "fastapi", "onnx"},
    owners=["team:ml"],
    code_version="1",
)
def predictions() -> dg.MaterializeResult:
    """The held-out days through the endpoint, in event-time order, the stream in lock-step."""
    found = replay_held_out(deployment())
    return dg.MaterializeResult(
        metadata={k: v for k, v in found.items() if isinstance(v, int | float | str)}
    )


@dg.asset_check(asset="predictions", blocking=True, description="Collected events included")
def served_conservation() -> dg.AssetCheckResult:
    found = conserved(deployment())
    return dg.AssetCheckResult(
        passed=found["holds"], metadata={"counts": dg.JsonMetadataValue(found)}
    )


@dg.asset(
    deps=["predictions"],
    group_name="serving",
    kinds={"spark", "deltalake"},
    owners=["team:ml"],
    code_version="1",
)
def outcomes() -> dg.MaterializeResult:
    """Predictions joined with their matured labels."""
    found = join_outcomes(deployment())
    metrics = {k: v["value"] for k, v in found["metrics"].items() if v["value"] is not None}
    return dg.MaterializeResult(
        metadata={"outcomes": found["outcomes"], "positives": found["positives"], **metrics}
    )


@dg.asset_check(
    asset="outcomes", blocking=True, description="Served features equal their recomputation"
)
def served_parity() -> dg.AssetCheckResult:
    found = read_result(deployment().lake, "outcomes")["parity"]
    return dg.AssetCheckResult(passed=found["mismatches"] == 0, metadata=found)


@dg.asset(deps=["outcomes"], group_name="monitoring", kinds={"evidently"}, owners=["team:ml"])
def drift() -> dg.MaterializeResult:
    """Features as served against features as trained on (Evidently, HTML and JSON)."""
    found = watch_drift(deployment())
    return dg.MaterializeResult(
        metadata={
            "share": found["share"],
            "new_window": found["new_window"],
            "html": dg.MetadataValue.path(found["html"]),
        }
    )


@dg.asset(deps=["outcomes"], group_name="monitoring", kinds={"numpy"}, owners=["team:ml"])
def off_policy() -> dg.MaterializeResult:
    """The declared target policy's value from the logging policy's rows."""
    found = value_policies(deployment())
    metadata = {"ips": found["ips"]["value"], "on_policy": found["on_policy"]} if found else {}
    return dg.MaterializeResult(metadata=metadata)
