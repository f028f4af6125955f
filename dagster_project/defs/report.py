"""The report: what the loop found, on one page."""

import dagster as dg

from dagster_project.partitions import deployment
from dagster_project.stages.report import write_report


@dg.asset(
    deps=["drift", "off_policy", "outcomes"],
    group_name="monitoring",
    kinds={"html"},
    owners=["team:ml"],
)
def report() -> dg.MaterializeResult:
    """`report.json` and `report.html` in the root folder."""
    found = write_report(deployment())
    return dg.MaterializeResult(
        metadata={"sound": found["sound"], "html": dg.MetadataValue.path(found["html"])}
    )
