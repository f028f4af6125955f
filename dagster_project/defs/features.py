"""Features: packed tiles in Delta, the same state in Feast's online store."""

import dagster as dg

from dagster_project.partitions import daily, days, deployment
from dagster_project.stages.features import backfill_days, materialize_online
from dagster_project.stages.parity import prove_imported
from data_contracts.results import read_result


@dg.asset(
    deps=["events"],
    partitions_def=daily(),
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="features",
    kinds={"spark", "deltalake"},
    owners=["team:data"],
    code_version="1",
)
def tiles(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Packed state per (group, key, day)."""
    found = backfill_days(deployment(), *days(context))
    return dg.MaterializeResult(metadata={"tiles": found["tiles"]})


@dg.asset(
    deps=["tiles"],
    group_name="features",
    kinds={"feast", "sqlite"},
    owners=["team:data"],
    code_version="1",
)
def online_state() -> dg.MaterializeResult:
    """Mergeable state of every key, from which the reader finalises at request time."""
    found = materialize_online(deployment())
    return dg.MaterializeResult(metadata={"keys": found["keys"], "as_of": found["as_of"]})


@dg.asset_check(
    asset="online_state", blocking=True, description="Stream and backfill give the same values"
)
def parity() -> dg.AssetCheckResult:
    found = read_result(deployment().lake, "online_state")
    told = ("keys", "compared", "mismatches", "lost", "superfluous")
    metadata = {name: found[name] for name in told}
    if found["keys"] > 0 == found["compared"]:
        # A fill proves nothing and is no fault either.
        return dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description="nothing was compared, for the store was filled: materialise it again",
            metadata=metadata,
        )
    return dg.AssetCheckResult(passed=found["mismatches"] == 0, metadata=metadata)


@dg.asset_check(
    asset="online_state", blocking=True, description="All engines equal the oracle under disorder"
)
def proof() -> dg.AssetCheckResult:
    found = prove_imported(deployment())
    return dg.AssetCheckResult(
        passed=found["holds"], metadata={"proof": dg.JsonMetadataValue(found)}
    )
