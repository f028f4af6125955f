"""What lies in quarantine, and what comes out of it once the contract is mended."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.quarantine import list_quarantine, replay_quarantine
from data_contracts.clock import HOUR, SystemClock
from data_contracts.contract import read_contract
from data_contracts.lake import Lake
from data_contracts.landing import landed_name
from data_contracts.record import parse_record
from data_contracts.use_case import CONTRACT, UseCase
from spark_jobs.conservation import conservation
from spark_jobs.quarantine import mended, quarantined
from spark_jobs.schemas import RAW
from spark_jobs.stream import MicroBatches, ingest_available
from spark_jobs.tables import load
from tests.spark.lakes import NOON, impression, land_at, rows_of, to_file, to_line

Row = tuple[str, int, bytes, int | None]
SHARE = impression("shared", NOON, event_type="share")
LOG = [impression("good", NOON), SHARE, b"{broken", impression("far", NOON, position=10**9)]


@pytest.fixture
def deployment(
    spark: SparkSession, clicks: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    """Four records were ingested, three of them refused; the deployment's contract is mended."""
    made = Deployment("clicks", tmp_path / "root")
    land_at(made.lake, to_file(tmp_path / "log.jsonl", LOG))
    ingest_available(spark, clicks, made.lake)
    text = (clicks.folder / CONTRACT).read_text()
    path = tmp_path / CONTRACT
    path.write_text(text.replace("{value: click}]", "{value: click}, {value: share}]", 1))
    mended = replace(clicks, contract=read_contract(path))
    assert "share" in mended.contract.event_types
    monkeypatch.setitem(made.__dict__, "use_case", mended)
    monkeypatch.setitem(made.__dict__, "spark", spark)
    return made


def lake(deployment: Deployment) -> Lake:
    return deployment.lake


def test_each_reason_is_listed_with_its_first_record(
    spark: SparkSession, deployment: Deployment
) -> None:
    found = list_quarantine(deployment)["quarantine"]
    assert found == quarantined(spark, deployment.lake)
    assert [1, 1, 1] <= [entry["records"] for entry in found]
    by_line = {entry["first"].rsplit(":", 1)[1]: entry["reason"] for entry in found}
    assert by_line["2"].startswith("event_type: 'share'")
    assert by_line["3"].startswith("record: not one JSON object")
    assert by_line["4"].startswith("position: ")


def test_what_the_contract_takes_by_now_becomes_an_event_and_nothing_is_lost(
    spark: SparkSession, deployment: Deployment
) -> None:
    said = replay_quarantine(deployment)
    assert (1, 1) == (said["mended"], said["added"]["events"])
    assert ["good", "shared"] == sorted(
        r["event_id"] for r in rows_of(spark, lake(deployment).events)
    )
    assert 3 == len(rows_of(spark, lake(deployment).quarantine))
    assert conservation(spark, lake(deployment)).holds

    again = replay_quarantine(deployment)
    assert (1, 0) == (again["already_landed"], again["added"]["events"])
    assert conservation(spark, lake(deployment)).holds


def test_where_nothing_is_mended_nothing_lands(
    spark: SparkSession, clicks: UseCase, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(deployment.__dict__, "use_case", clicks)
    assert {"mended": 0} == replay_quarantine(deployment)
    assert 1 == len(list(lake(deployment).landing.glob("*.jsonl")))


def test_records_are_judged_as_if_they_arrived_now_and_land_a_line_each(
    spark: SparkSession, deployment: Deployment, clicks: UseCase, tmp_path: Path
) -> None:
    """The mended contract takes a record of several lines too. One that a host with a slow clock
    landed, and one an hour ahead of the broker's, need no mend; one of the future stays."""
    event = {name: value for name, value in SHARE.items() if name != "arrived_at"}

    def record(line: int, kind: str, arrived: int, **style: Any) -> Row:
        said = {**event, "event_id": f"e{line}", "event_type": kind}
        return "topic/0", line, json.dumps(said, **style).encode(), arrived

    taken: list[Row] = [
        record(0, "share", NOON, indent=2),
        record(1, "share", NOON),
        record(2, "share", NOON - HOUR),
        record(3, "impression", NOON - HOUR),
        ("topic/0", 4, to_line(impression("e4", SystemClock().now() + HOUR)), NOON),
        (landed_name(NOON - HOUR, "0" * 12, "slow"), 1, to_line(impression("e5", NOON)), None),
    ]
    topic = Lake(tmp_path / "topic", "clicks")
    raw = spark.createDataFrame(taken, f"{RAW}, arrived bigint")
    MicroBatches(spark, clicks, topic, begun=False).process(raw, 0)
    assert 6 == len(rows_of(spark, topic.quarantine))

    out, use_case = tmp_path / "mended.jsonl", deployment.use_case
    assert 5 == mended(spark, use_case, topic, out)
    found = [parse_record(use_case.contract, line) for line in out.read_bytes().splitlines()]
    assert ["e0", "e1", "e2", "e3", "e5"] == sorted(event["event_id"] for event in found)
    assert 2 == mended(spark, clicks, topic, out)


def test_a_quarantine_from_before_arrivals_were_kept_is_replayed_and_grows(
    spark: SparkSession, clicks: UseCase, deployment: Deployment, tmp_path: Path
) -> None:
    path, out = lake(deployment).quarantine, tmp_path / "mended.jsonl"
    before = load(spark, path).drop("arrived").write.format("delta").mode("overwrite")
    before.option("overwriteSchema", "true").save(str(path))
    assert 1 == mended(spark, deployment.use_case, lake(deployment), out)
    land_at(lake(deployment), to_file(tmp_path / "more.jsonl", [b"{more"]))
    ingest_available(spark, clicks, lake(deployment))
    assert 4 == len(rows_of(spark, path))
    assert 1 == mended(spark, deployment.use_case, lake(deployment), out)
