"""The source's log as canonical events."""

import dagster as dg

from dagster_project.partitions import deployment
from dagster_project.stages.raw_log import import_raw_log


@dg.asset(group_name="events", kinds={"python", "json"}, owners=["team:data"])
def raw_log() -> dg.MaterializeResult:
    """The raw log, imported: one file of canonical events a day."""
    found = import_raw_log(deployment())
    return dg.MaterializeResult(
        metadata={
            "rows": found["rows"],
            "events": found["events"],
            "days": len(found["history"]) + len(found["held_out"]),
            "held_out": ", ".join(found["held_out"]),
        }
    )
