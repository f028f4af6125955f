"""The loop as jobs, and what sets them off: a schedule, and drift."""

import json

import dagster as dg

from dagster_project.partitions import deployment
from dagster_project.stages.drift import drift_shares
from data_contracts.clock import SystemClock
from data_contracts.retrain import drift_alarm

loop = dg.define_asset_job("loop", dg.AssetSelection.all(), description="The whole loop, once")

retrain = dg.define_asset_job(
    "retrain",
    dg.AssetSelection.assets("training_set", "model"),
    description="A new training set, and a version that must pass its gates",
)

retrain_schedule = dg.ScheduleDefinition(
    name="retrain_on_schedule",
    job=retrain,
    cron_schedule=deployment().use_case.declared.retrain.cron,
    execution_timezone="UTC",
)


@dg.sensor(job=retrain, minimum_interval_seconds=60)
def retrain_on_drift(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Retrain when k of the last n windows drifted; the cursor keeps the cooldown."""
    policy = deployment().use_case.declared.retrain
    cursor = json.loads(context.cursor) if context.cursor else {"windows": 0, "retrained": None}
    shares, now = drift_shares(deployment().lake), SystemClock().now()
    if len(shares) <= cursor["windows"]:
        return dg.SkipReason(f"no new drift window after {cursor['windows']}")
    reason = drift_alarm(policy, shares, now, cursor["retrained"])
    retrained = now if reason else cursor["retrained"]
    context.update_cursor(json.dumps({"windows": len(shares), "retrained": retrained}))
    if reason is None:
        return dg.SkipReason(f"{len(shares)} windows seen: no alarm, or within the cooldown")
    return dg.RunRequest(run_key=f"drift-{len(shares)}", tags={"headrace/reason": reason})
