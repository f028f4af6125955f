"""The loop as jobs, and what sets them off: a schedule, and drift."""

import json

import dagster as dg

from dagster_project.partitions import deployment
from dagster_project.stages.drift import drift_windows
from data_contracts.clock import SystemClock
from data_contracts.retrain import drift_alarm

_STOPPED = "Stopped until it is switched on in the Automation page."

loop = dg.define_asset_job("loop", dg.AssetSelection.all(), description="The whole loop, once")

retrain = dg.define_asset_job(
    "retrain",
    dg.AssetSelection.assets("training_set", "model"),
    description="A new training set, and a version that must pass its gates",
)

judge = dg.define_asset_job(
    "judge",
    dg.AssetSelection.assets("outcomes"),
    description="Served predictions joined with their labels: what a release is judged by",
)

judge_schedule = dg.ScheduleDefinition(
    name="judge_on_schedule",
    job=judge,
    cron_schedule="*/10 * * * *",
    execution_timezone="UTC",
    description=f"Outcomes are joined every ten minutes while a release runs. {_STOPPED}",
)

retrain_schedule = dg.ScheduleDefinition(
    name="retrain_on_schedule",
    job=retrain,
    cron_schedule=deployment().use_case.declared.retrain.cron,
    execution_timezone="UTC",
    description=f"A version is trained at the use case's times. {_STOPPED}",
)


@dg.sensor(
    job=retrain,
    minimum_interval_seconds=60,
    description=f"A version is trained when k of the last n windows drifted. {_STOPPED}",
)
def retrain_on_drift(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Retrain when k of the last n windows drifted; the cursor keeps the cooldown."""
    policy = deployment().use_case.declared.retrain
    cursor = json.loads(context.cursor) if context.cursor else {"at": None, "retrained": None}
    windows, now = drift_windows(deployment().lake), SystemClock().now()
    at = windows[-1][0] if windows else None
    if at is None or at == cursor["at"]:
        return dg.SkipReason(f"no new drift window, {len(windows)} in the history")
    reason = drift_alarm(policy, [share for _, share in windows], now, cursor["retrained"])
    retrained = now if reason else cursor["retrained"]
    context.update_cursor(json.dumps({"at": at, "retrained": retrained}))
    if reason is None:
        return dg.SkipReason(f"{len(windows)} windows seen: no alarm, or within the cooldown")
    return dg.RunRequest(run_key=f"drift-{at}", tags={"headrace/reason": reason})
