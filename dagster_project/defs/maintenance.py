"""Upkeep beside the loop: the lake compacted and cleared."""

import dagster as dg

from dagster_project.partitions import deployment
from dagster_project.stages.maintenance import maintain_lake


@dg.op
def upkeep(context: dg.OpExecutionContext) -> None:
    """Compact, fold, expire and vacuum, also while the stream runs."""
    context.log.info(str(maintain_lake(deployment())))


@dg.job(description="The lake kept small and fast; no feature value changes")
def maintenance() -> None:
    upkeep()


maintain_on_schedule = dg.ScheduleDefinition(
    name="maintain_on_schedule",
    job=maintenance,
    cron_schedule="30 4 * * *",
    execution_timezone="UTC",
    description="Upkeep every night. Stopped until it is switched on in the Automation page.",
)
