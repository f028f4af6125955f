"""Nothing is dropped but by retention, and what is expired is counted and kept."""

from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.quarantine import list_quarantine, replay_quarantine
from data_contracts.clock import DAY, format_time
from data_contracts.use_case import UseCase
from spark_jobs.conservation import conservation
from spark_jobs.feature_store import OnlineStates
from spark_jobs.stream import ingest_available
from tests.spark.lakes import ARRIVAL, NOON, ended, impression, land_at, rows_of, to_file

LATE = {"arrived_at": format_time(NOON + 10 * DAY)}
LOG = [
    (impression("in time", NOON), "events"),
    (impression("as late as may be", NOON + DAY, user="u2", **LATE), "events"),
    (impression("too late", NOON + DAY - 1, user="u3", **LATE), "expired"),
    (impression("in time", NOON, **LATE), "expired"),
    ({**impression("unstamped", NOON - 90 * DAY), "arrived_at": None}, "events"),
    (impression("broken and late", NOON, position=0, **LATE), "quarantine"),
    (impression("in time", NOON), "duplicates"),
]


def test_an_expired_record_has_a_verdict_of_its_own_until_the_retention_is_raised(
    spark: SparkSession, clicks: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment("clicks", tmp_path / "root")
    lake = deployment.lake
    kept = replace(clicks, contract=replace(clicks.contract, retention=9 * DAY))
    log = to_file(tmp_path / "log.jsonl", [record for record, _ in LOG])
    land_at(lake, log, at=ARRIVAL + 9 * DAY)
    ingest_available(spark, kept, lake)
    expected = {("log.jsonl", line): [verdict] for line, (_, verdict) in enumerate(LOG, 1)}
    assert expected == ended(spark, lake)
    found = conservation(spark, lake)
    assert (7, 3, 1, 1, 2, True) == (
        found.records, found.events, found.duplicates, found.quarantined, found.expired,
        found.holds,
    )  # fmt: skip
    online = OnlineStates(kept, lake).read(clicks.groups[0], ["u1", "u2", "u3"])
    assert {"u1", "u2"} == set(online)

    monkeypatch.setitem(deployment.__dict__, "spark", spark)
    monkeypatch.setitem(deployment.__dict__, "use_case", clicks)
    by_verdict = {e["verdict"]: e["reason"] for e in list_quarantine(deployment)["quarantine"]}
    assert "event_time: above 9 days (the retention) before its arrival" == by_verdict["expired"]
    said = replay_quarantine(deployment)
    assert (2, 1, 1) == (said["mended"], said["added"]["events"], said["added"]["duplicates"])
    assert {"in time", "as late as may be", "too late", "unstamped"} == {
        row["event_id"] for row in rows_of(spark, lake.events)
    }
    assert (2, True) == (said["conservation"]["expired"], said["conservation"]["holds"])
