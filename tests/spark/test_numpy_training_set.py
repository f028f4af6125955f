"""The benchmarks' training set, made without Spark, is the one that Spark makes."""

from pathlib import Path
from shutil import copytree

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.events import ingest_days
from dagster_project.stages.model import build_point_in_time
from dagster_project.stages.raw_log import import_raw_log
from data_contracts.lake import Lake
from data_contracts.results import write_result
from data_contracts.world.log import write_world
from data_contracts.world.parameters import Parameters
from tests.benchmarks.training_sets import write_training_set


@pytest.mark.full
def test_the_training_set_of_numpy_is_that_of_spark(spark: SparkSession, tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_world(Parameters(4_000), log, lambda _: None)
    deployment = Deployment("world", tmp_path / "spark", log)
    raw_log = import_raw_log(deployment)
    ingest_days(deployment, raw_log["history"][0], raw_log["history"][-1])
    build_point_in_time(deployment)

    use_case = deployment.use_case
    other = Lake(tmp_path / "numpy", use_case.name)
    copytree(deployment.lake.imported, other.imported)
    write_result(other, "raw_log", {"history": raw_log["history"]})
    assert write_training_set(use_case, other, log) > 200

    tables = [
        DeltaTable(lake.training_set).to_pyarrow_table().sort_by("event_id")
        for lake in (deployment.lake, other)
    ]
    assert set(tables[1].column_names) <= set(tables[0].column_names)
    for name in ("event_id", "q", "label", "split", *use_case.feature_names):
        assert tables[0][name].to_pylist() == tables[1][name].to_pylist(), name
