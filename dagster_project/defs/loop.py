"""The loop as jobs, and what sets them off: a schedule, and drift."""

import dagster as dg

from dagster_project.partitions import deployment
from dagster_project.stages.drift import alarm
from dagster_project.stages.rollout import releasing
from data_contracts.clock import HOUR, SystemClock

_STOPPED = "Stopped until it is switched on in the Automation page."

_STATUS = dg.DagsterRunStatus
_UNDER_WAY = [_STATUS.NOT_STARTED, _STATUS.QUEUED, _STATUS.STARTING, _STATUS.STARTED]

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

watch = dg.define_asset_job(
    "watch",
    dg.AssetSelection.assets("outcomes", "drift", "off_policy", "report"),
    description="Outcomes, a drift window of what was asked since the last one, and the report",
)

watch_schedule = dg.ScheduleDefinition(
    name="watch_on_schedule",
    job=watch,
    cron_schedule="0 2 * * *",
    execution_timezone="UTC",
    description=f"A drift window and the report every night, which drift is told by. {_STOPPED}",
)


@dg.schedule(
    job=judge,
    cron_schedule="*/10 * * * *",
    execution_timezone="UTC",
    description=f"Outcomes are joined every ten minutes while a release runs. {_STOPPED}",
)
def judge_on_schedule() -> dg.RunRequest | dg.SkipReason:
    """A run while there is a candidate."""
    return dg.RunRequest() if releasing(deployment()) else dg.SkipReason("no release runs")


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
    description="A version is trained when k of the last n windows since the last training "
    f"drifted, and again an hour later where that failed. {_STOPPED}",
)
def retrain_on_drift(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run an hour at most, and one at a time, until a version is trained."""
    under_way = dg.RunsFilter(job_name=retrain.name, statuses=_UNDER_WAY)
    if context.instance.get_runs(under_way, limit=1):
        return dg.SkipReason("a retraining is under way")
    now = SystemClock().now()
    reason = alarm(deployment(), now)
    if reason is None:
        return dg.SkipReason("too few windows since the last training drifted, or its cooldown")
    return dg.RunRequest(run_key=f"drift-{now // HOUR}", tags={"headrace/reason": reason})
