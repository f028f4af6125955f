"""Stage raw_log: the source's log becomes canonical events, a file a day."""

from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from dagster_project.stages.dimension import load_beside
from data_contracts.results import write_result
from spark_jobs.imports import import_log


def import_raw_log(deployment: Deployment) -> dict[str, Any]:
    """Import the raw log, and load the dimensions beside it; the last days, whose labels still
    mature, are held out for replay."""
    report = reporter()
    report.stage(f"import {deployment.raw_log.name}")
    use_case, lake = deployment.use_case, deployment.lake
    imported = import_log(
        use_case, lake, deployment.raw_log, lambda rows: report.detail(f"{rows:,} rows")
    )
    start = use_case.declared.start
    if early := [day.stem for day in imported.days if day.stem < start]:
        raise ValueError(
            f"use case {use_case.name}: start {start}: the log begins {early[0]}: declare that"
        )
    load_beside(deployment, deployment.raw_log)
    held_out = imported.held_out(use_case.label.window)
    result = {
        "rows": imported.rows,
        "events": imported.events,
        "history": [day.stem for day in imported.days if day not in held_out],
        "held_out": [day.stem for day in held_out],
    }
    write_result(lake, "raw_log", result)
    return result
