"""Stages tiles and online_state: the packed state of every key, in Delta and in Feast."""

from dataclasses import asdict
from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.clock import format_time
from data_contracts.results import write_result
from spark_jobs.materialize import materialize
from spark_jobs.tiles import backfill_tiles


def backfill_days(deployment: Deployment, first: str, last: str) -> dict[str, Any]:
    """Rebuild the packed tiles of the days `first` … `last` (YYYY-MM-DD, both included)."""
    reporter().stage("backfill tiles")
    rows = backfill_tiles(deployment.spark, deployment.use_case, deployment.lake, first, last)
    result = {"first": first, "last": last, "tiles": rows}
    write_result(deployment.lake, "tiles", result)
    return result


def materialize_online(deployment: Deployment) -> dict[str, Any]:
    """Rebuild the online store from Delta and compare it with what the stream had written."""
    reporter().stage("materialize to Feast")
    found = materialize(deployment.spark, deployment.use_case, deployment.lake)
    result = {**asdict(found), "as_of": format_time(found.as_of)}
    write_result(deployment.lake, "online_state", result)
    return result
