"""A stream never builds the state of a new definition from new events alone."""

from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from data_contracts.clock import SECOND
from data_contracts.lake import Lake
from data_contracts.states import read
from data_contracts.use_case import UseCase
from data_contracts.windows import Sliding
from spark_jobs.feature_store import OnlineStates
from spark_jobs.materialize import materialize
from spark_jobs.stream import ingest_available
from spark_jobs.tiles import backfill_tiles
from tests.spark.lakes import ARRIVAL, NOON, impression, land_at, to_file


def test_after_a_change_the_stream_asks_for_the_past_first(
    spark: SparkSession, clicks: UseCase, lake: Lake, tmp_path: Path
) -> None:
    early = to_file(tmp_path / "early.jsonl", [impression("e1", NOON)])
    late = to_file(tmp_path / "late.jsonl", [impression("e2", NOON + SECOND)])
    land_at(lake, early, at=ARRIVAL)
    ingest_available(spark, clicks, lake)
    wider = replace(clicks.groups[0], windows=(Sliding("2h"),))
    changed = replace(clicks, declared=replace(clicks.declared, groups=(wider,)))
    land_at(lake, late, at=ARRIVAL)
    with pytest.raises(ValueError, match="run `headrace materialize`"):
        ingest_available(spark, changed, lake)
    backfill_tiles(spark, changed, lake, changed.groups, "2019-11-26", "2019-11-26")
    materialize(spark, changed, lake)
    ingest_available(spark, changed, lake)
    states = OnlineStates(changed, lake).read(wider, ["u1"])
    values = read(wider, [states["u1"]], NOON + 2 * SECOND)
    assert 2 == values[0][wider.feature_names.index("user_impressions_2h")]
