"""What fails in a micro-batch is told as what it is, in one line, not as Spark wraps it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from data_contracts.clock import SECOND
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.stream import ingest_available, running_stream
from tests.spark.lakes import ARRIVAL, NOON, ended, impression, land_at, to_file


@pytest.fixture
def begun(spark: SparkSession, clicks: UseCase, lake: Lake, tmp_path: Path) -> Lake:
    """A lake with one batch behind it and the next one landed."""
    for i, name in enumerate(("first", "then")):
        file = to_file(tmp_path / f"{name}.jsonl", [impression(name, NOON + i * SECOND)])
        land_at(lake, file, at=ARRIVAL + i)
        if not i:
            ingest_available(spark, clicks, lake)
    return lake


@pytest.mark.full
def test_a_locked_online_store_is_named_and_the_next_run_goes_on(
    spark: SparkSession, clicks: UseCase, begun: Lake, tmp_path: Path
) -> None:
    store = begun.online / "online.db"
    said = f"{store}: database is locked: end what holds the file"
    later = to_file(tmp_path / "later.jsonl", [impression("later", NOON)])
    with closing(sqlite3.connect(store, isolation_level=None)) as holder:

        def lock_the_store_in_mid_stream() -> None:
            with running_stream(spark, clicks, begun) as stream:
                stream.catch_up()
                holder.execute("BEGIN EXCLUSIVE")
                land_at(begun, later, at=ARRIVAL + 2)
                stream.catch_up()

        with pytest.raises(RuntimeError) as error:
            lock_the_store_in_mid_stream()
        assert said in str(error.value)
        assert "\n" not in str(error.value)
        assert isinstance(error.value.__cause__, StreamingQueryException), "kept for --debug"
        with pytest.raises(RuntimeError) as error:
            ingest_available(spark, clicks, begun)
        assert said in str(error.value)
    ingest_available(spark, clicks, begun)
    assert {("first.jsonl", 1), ("then.jsonl", 1), ("later.jsonl", 1)} == set(ended(spark, begun))


def test_an_error_in_a_worker_of_spark_is_its_last_line(
    spark: SparkSession, clicks: UseCase, begun: Lake
) -> None:
    landed = next(begun.landing.glob("*then.jsonl"))
    ingest_available(spark, clicks, begun)
    (begun.stream / "checkpoint" / "commits" / "1").unlink()
    (begun.stream / "checkpoint" / "commits" / ".1.crc").unlink()
    landed.unlink()
    with pytest.raises(RuntimeError) as error:
        ingest_available(spark, clicks, begun)
    assert f"FileNotFoundError: [Errno 2] No such file or directory: '{landed}'" == str(error.value)


@pytest.mark.parametrize("where", ["in the batch", "before the stream"])
def test_an_error_of_spark_or_of_a_table_is_one_line(
    spark: SparkSession, clicks: UseCase, begun: Lake, tmp_path: Path, where: str
) -> None:
    if where == "in the batch":
        land_at(begun, to_file(tmp_path / "odd.jsonl", [b"broken"]))
        begun.quarantine.touch()
        said = str(begun.quarantine)
    else:
        (begun.events / "_delta_log" / f"{1:020}.json").mkdir()
        said = "FAILED_READ_FILE"
    with pytest.raises(RuntimeError) as error:
        ingest_available(spark, clicks, begun)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
