"""A use case outside the package, on its real log: from the raw file to a judged model."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.events import ingest_days, validate_days
from dagster_project.stages.features import backfill_days, materialize_online
from dagster_project.stages.model import build_point_in_time, train_model
from dagster_project.stages.raw_log import import_raw_log
from tests.deskdrop_log import demand_log

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.full
def test_the_loop_runs_on_deskdrop_up_to_a_model_of_auc_0_735(spark: SparkSession, tmp_path: Path):
    deployment = Deployment(str(REPOSITORY / "tests/usecases/deskdrop"), tmp_path, demand_log())
    raw_log = import_raw_log(deployment)
    assert (72_312, ["2017-02-27", "2017-02-28"]) == (raw_log["rows"], raw_log["held_out"])
    span = raw_log["history"][0], raw_log["history"][-1]
    counts = ingest_days(deployment, *span)["conservation"]
    assert counts["holds"]
    assert (11, 0, 0) == (counts["duplicates"], counts["conflicts"], counts["quarantined"])
    assert validate_days(deployment, *span).success
    backfill_days(deployment, *span)
    state = materialize_online(deployment)
    assert 0 == state["mismatches"]
    assert state["compared"] > 100_000
    build_point_in_time(deployment)
    model = train_model(deployment)
    auc = model["metrics"]["dcn_v2"]["auc"]
    assert auc["low"] < auc["value"] < auc["high"]
    assert 0.735 <= auc["value"]
    assert auc["n"] == 6028
    assert ("pass", "champion") == (model["decision"]["verdict"], model["alias"])
