"""Stages tiles and online_state: the packed state of every key, in Delta and in Feast."""

from dataclasses import asdict
from time import monotonic
from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.clock import format_time
from data_contracts.lake import Lake
from data_contracts.results import read_result, write_result
from data_contracts.views import kept_up
from spark_jobs.materialize import materialize
from spark_jobs.tiles import backfill_tiles


def backfill_days(deployment: Deployment, first: str, last: str) -> dict[str, Any]:
    """Build the packed tiles of the days `first` … `last` (YYYY-MM-DD) that have gained events."""
    reporter().stage("backfill tiles")
    use_case, lake = deployment.use_case, deployment.lake
    groups, began = kept_up(use_case, lake), monotonic()
    found = backfill_tiles(deployment.spark, use_case, lake, groups, first, last)
    rate = found.events / (monotonic() - began) if found.events else packing_rate(lake)
    result = {"first": first, "last": last, **asdict(found), "events_per_s": rate}
    write_result(lake, "tiles", result)
    return result


def packing_rate(lake: Lake) -> float | None:
    """Events a second and definition, as the last backfill that had work packed them; None where
    none had."""
    try:
        return read_result(lake, "tiles").get("events_per_s")
    except ValueError:
        return None


def materialize_online(deployment: Deployment) -> dict[str, Any]:
    """Rebuild the online store from Delta and compare it with what the stream had written."""
    reporter().stage("materialize to Feast")
    found = materialize(deployment.spark, deployment.use_case, deployment.lake)
    result = {**asdict(found), "as_of": format_time(found.as_of)}
    write_result(deployment.lake, "online_state", result)
    return result
