"""Daily partitions from the first day of the use case's log."""

from functools import cache

import dagster as dg

from dagster_project.deployment import Deployment


@cache
def deployment() -> Deployment:
    """The deployment of this process, read from the environment once."""
    return Deployment.from_environment()


def daily() -> dg.DailyPartitionsDefinition:
    """The days of the deployment's event log."""
    return dg.DailyPartitionsDefinition(start_date=deployment().use_case.declared.start)


def days(context: dg.AssetExecutionContext) -> tuple[str, str]:
    """First and last day (YYYY-MM-DD, both included) of the partitions being materialised."""
    span = context.partition_key_range
    return span.start, span.end
