"""Policies are valued by the rows whose labels stand, whoever's clicks have stopped."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.outcomes import value_policies
from data_contracts.clock import HOUR, MINUTE, SECOND, parse_time
from spark_jobs.stream import ingest_available
from tests.spark.lakes import click, impression, land_at, to_file

CLOSED = parse_time("2019-12-01T00:00:00Z")
POLICIES = ("random", "bts")


def shown(at: int, policy: str) -> dict[str, Any]:
    """An impression that the policy chose, of one of ten users and four items."""
    turn = at // MINUTE
    return impression(
        f"{policy}-{at}", at, f"u{turn % 10}", f"{turn % 4}", policy=policy, propensity=1 / 80
    )


def hours(start: int, count: int) -> list[dict[str, Any]]:
    """A row of each policy in each of `count` hours from `start` on."""
    return [shown(start + hour * HOUR, policy) for hour in range(count) for policy in POLICIES]


def clicked(row: Mapping[str, Any]) -> dict[str, Any]:
    at = parse_time(row["event_time"]) + SECOND
    return click(row["event_id"], at, row["user_id"], row["item_id"])


@pytest.fixture
def deployment(spark: SparkSession, tmp_path: Path) -> Deployment:
    return Deployment("clicks", tmp_path / "root")


def ingest(deployment: Deployment, folder: Path, events: list[dict[str, Any]]) -> None:
    file = to_file(folder / "events.jsonl", events)
    land_at(deployment.lake, file, at=CLOSED + 1_000 * HOUR)
    ingest_available(deployment.spark, deployment.use_case, deployment.lake)


def test_rows_whose_clicks_are_still_to_come_are_no_rows_of_a_value(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Six hours of a closed log without a click after them; then ten hours, clicks in the first
    four: what follows is immature."""
    closed, later = hours(CLOSED - 6 * HOUR, 6), hours(CLOSED + 24 * HOUR, 10)
    events = [*closed, *later, *map(clicked, later[:8])]
    ingest(deployment, tmp_path, events)
    found = value_policies(deployment)
    # The rows of the fourth hour are half an hour short of the last click.
    assert (6 + 3, 6 + 3) == (found["ips"]["n"], found["on_policy_n"])
    assert "user_id" == found["intervals_over"]
    assert 3 / 9 == pytest.approx(found["on_policy"])
    written = json.loads((deployment.lake.reports / "off_policy.json").read_text())
    assert written == json.loads(json.dumps(found))


def test_before_any_label_stands_there_is_no_value(deployment: Deployment, tmp_path: Path) -> None:
    ingest(deployment, tmp_path, hours(CLOSED, 3))
    assert {} == value_policies(deployment)
    assert not (deployment.lake.reports / "off_policy.json").exists()
