"""A micro-batch that died is taken again from the start and leaves what an undisturbed one does."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from pyspark.sql import SparkSession

from data_contracts.clock import DAY, HOUR, SECOND
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.states import State
from data_contracts.use_case import UseCase
from spark_jobs.conservation import conservation
from spark_jobs.feature_store import OnlineStates
from spark_jobs.stream import ingest_available
from tests.spark.lakes import ARRIVAL, NOON, click, impression, land_at, rows_of, to_file

REPOSITORY = Path(__file__).parents[2]
KEYS = {"user": [f"u{i}" for i in range(4)], "item": [f"i{i}" for i in range(5)]}
FIRST = [
    impression(f"a{i}", NOON + i * SECOND, user=f"u{i % 3}", item=f"i{i % 4}") for i in range(12)
]
THEN = [
    *(impression(f"b{i}", NOON + HOUR + i, user=f"u{i % 4}", item=f"i{i % 5}") for i in range(10)),
    click("a3", NOON + 20 * SECOND, user="u0", item="i3"),
    impression("late", NOON - DAY, user="u1", item="i1"),
    FIRST[4],
    impression("b0", NOON + HOUR, user="u0", item="i0"),
    {**FIRST[5], "position": 9},
    b"broken",
]
"""New events, late ones, duplicates of both batches, a conflict and a broken record."""


@dataclass(frozen=True)
class Outcome:
    """Everything that a lake holds after its last batch."""

    tables: dict[str, list[dict[str, Any]]]
    states: dict[str, dict[str, tuple[int, int, list[list[int]]]]]
    counted: Any


@pytest.fixture(scope="module")
def begun(spark: SparkSession, clicks: UseCase, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with one batch behind it and the next one landed."""
    folder = tmp_path_factory.mktemp("begun")
    lake = Lake(folder / "root", clicks.name)
    land_at(lake, to_file(folder / "first.jsonl", FIRST))
    ingest_available(spark, clicks, lake)
    land_at(lake, to_file(folder / "then.jsonl", THEN), at=ARRIVAL + 1)
    return lake


@pytest.fixture(scope="module")
def undisturbed(spark: SparkSession, clicks: UseCase, begun: Lake) -> Outcome:
    lake = copy_of(begun, begun.root.with_name("undisturbed"))
    ingest_available(spark, clicks, lake)
    return outcome(spark, clicks, lake)


def copy_of(lake: Lake, root: Path) -> Lake:
    copytree(lake.root, root)
    return Lake(root, lake.use_case)


def outcome(spark: SparkSession, clicks: UseCase, lake: Lake) -> Outcome:
    tables = {n: rows_of(spark, getattr(lake, n)) for n in ("events", "duplicates", "quarantine")}
    online = OnlineStates(clicks, lake)
    states = {
        group.name: {
            key: (state.seq, state.as_of, [table.tolist() for table in state.rows.tables])
            for key, state in online.read(group, KEYS[group.name]).items()
        }
        for group in clicks.groups
    }
    return Outcome(tables, states, conservation(spark, lake))


def names(tables: list[dict[str, Any]]) -> set[str]:
    return {row["event_id"] for row in tables}


def die(lake: Lake, stage: str) -> None:
    command = [sys.executable, "-m", "tests.spark.dying_writer", str(lake.root), stage]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert -signal.SIGKILL == told.returncode, told.stderr


def test_the_undisturbed_run_is_worth_comparing_with(undisturbed: Outcome) -> None:
    assert undisturbed.counted.holds
    assert (24, 2, 1, 1) == (
        undisturbed.counted.events,
        undisturbed.counted.duplicates,
        undisturbed.counted.conflicts,
        undisturbed.counted.quarantined,
    )
    assert {1, 2} == {row["seq"] for row in undisturbed.tables["events"]}


def test_killed_after_the_online_merge_and_before_the_append(
    spark: SparkSession, clicks: UseCase, begun: Lake, undisturbed: Outcome, tmp_path: Path
) -> None:
    lake = copy_of(begun, tmp_path / "root")
    die(lake, "before_append")
    dead = outcome(spark, clicks, lake)
    assert undisturbed.states == dead.states, "the batch is online"
    assert {f"a{i}" for i in range(12)} == names(dead.tables["events"]), "and not in the table"
    ingest_available(spark, clicks, lake)
    assert undisturbed == outcome(spark, clicks, lake)


def test_killed_after_the_append_and_before_the_commit_of_the_stream(
    spark: SparkSession, clicks: UseCase, begun: Lake, undisturbed: Outcome, tmp_path: Path
) -> None:
    lake = copy_of(begun, tmp_path / "root")
    die(lake, "after_append")
    assert undisturbed.tables["events"] == rows_of(spark, lake.events)
    commits = lake.stream / "checkpoint" / "commits"
    assert ["0"] == sorted(p.name for p in commits.iterdir() if not p.name.startswith("."))
    ingest_available(spark, clicks, lake)
    assert undisturbed == outcome(spark, clicks, lake)


def test_failed_between_two_groups_of_the_online_merge(
    spark: SparkSession,
    clicks: UseCase,
    begun: Lake,
    undisturbed: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake = copy_of(begun, tmp_path / "root")
    write = OnlineStates.write

    def disk_full(self: OnlineStates, group: FeatureGroup, states: dict[str, State]) -> None:
        if group.name == "item":
            raise OSError("disk full")
        write(self, group, states)

    with monkeypatch.context() as patch:
        patch.setattr(OnlineStates, "write", disk_full)
        with pytest.raises(OSError, match=r"^disk full$"):
            ingest_available(spark, clicks, lake)
    half = outcome(spark, clicks, lake).states
    assert undisturbed.states["user"] == half["user"]
    assert undisturbed.states["item"] != half["item"]
    ingest_available(spark, clicks, lake)
    assert undisturbed == outcome(spark, clicks, lake)
