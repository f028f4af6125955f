"""Whether the newest event came lately enough, by when it arrived."""

from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.events import fresh
from data_contracts.clock import HOUR, MINUTE, format_time
from data_contracts.use_case import UseCase
from spark_jobs.stream import ingest_available
from tests.spark.lakes import NOON, impression, land_at, to_file


@pytest.mark.parametrize(("within", "holds"), [("", True), ("1h", False), ("2h", True)])
def test_the_newest_event_has_to_have_come_within_what_is_declared(
    spark: SparkSession, clicks: UseCase, tmp_path: Path, within: str, holds: bool
) -> None:
    deployment = Deployment("clicks", tmp_path / "root")
    events = [impression("old", NOON - HOUR), impression("new", NOON)]
    land_at(deployment.lake, to_file(tmp_path / "log.jsonl", events))
    ingest_available(spark, clicks, deployment.lake)
    declared = replace(clicks.declared, fresh_within=within)
    deployment.__dict__["use_case"] = replace(clicks, declared=declared)
    found = fresh(deployment, NOON + HOUR + MINUTE)
    expected = {"arrived": format_time(NOON), "within": within or "any", "holds": holds}
    assert expected == found
