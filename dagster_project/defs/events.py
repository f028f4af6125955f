"""Events: one row per event_id, every record of the landing log accounted for."""

import dagster as dg

from dagster_project.partitions import daily, days, deployment
from dagster_project.stages.events import COUNTS, conserved, fresh, ingest_days, validate_days
from data_contracts.clock import SystemClock
from data_contracts.results import read_result


@dg.asset(
    deps=["raw_log"],
    partitions_def=daily(),
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="events",
    kinds={"spark", "deltalake"},
    owners=["team:data"],
    code_version="1",
)
def events(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """The days' events in Delta, through the gate, exactly once."""
    found = ingest_days(deployment(), *days(context))
    metadata = {name: found["conservation"][name] for name in COUNTS}
    if found.get("waiting"):
        metadata["waiting"] = found["waiting"]
    return dg.MaterializeResult(metadata=metadata)


@dg.asset_check(asset="events", blocking=True, description="Every record is in exactly one table")
def conservation() -> dg.AssetCheckResult:
    found = conserved(deployment())
    return dg.AssetCheckResult(
        passed=found["holds"], metadata={"counts": dg.JsonMetadataValue(found)}
    )


@dg.asset_check(asset="events", blocking=True, description="The newest came within fresh_within")
def freshness() -> dg.AssetCheckResult:
    found = fresh(deployment(), SystemClock().now())
    return dg.AssetCheckResult(passed=found["holds"], metadata=found)


@dg.asset_check(asset="events", blocking=True, description="Great Expectations from the contract")
def contract() -> dg.AssetCheckResult:
    raw_log = read_result(deployment().lake, "raw_log")
    every = sorted((*raw_log["history"], *raw_log["held_out"]))
    found = validate_days(deployment(), every[0], every[-1])
    return dg.AssetCheckResult(
        passed=found.success,
        metadata={"expectations": found.evaluated, "failed": ", ".join(found.failed) or "none"},
    )
