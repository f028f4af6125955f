"""Stages tiles and online_state: the packed state of every key, in Delta and in Feast."""

from dataclasses import asdict
from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.clock import format_time
from data_contracts.results import write_result
from data_contracts.views import kept_up
from spark_jobs.materialize import materialize
from spark_jobs.tiles import backfill_tiles


def backfill_days(deployment: Deployment, first: str, last: str) -> dict[str, Any]:
    """Build the packed tiles of the days `first` … `last` (YYYY-MM-DD) that have gained events."""
    reporter().stage("backfill tiles")
    use_case, lake = deployment.use_case, deployment.lake
    groups = kept_up(use_case, lake)
    found = backfill_tiles(deployment.spark, use_case, lake, groups, first, last)
    result = {"first": first, "last": last, **asdict(found)}
    write_result(lake, "tiles", result)
    return result


def materialize_online(deployment: Deployment) -> dict[str, Any]:
    """Rebuild the online store from Delta and compare it with what the stream had written."""
    reporter().stage("materialize to Feast")
    found = materialize(deployment.spark, deployment.use_case, deployment.lake)
    result = {**asdict(found), "as_of": format_time(found.as_of)}
    write_result(deployment.lake, "online_state", result)
    return result
