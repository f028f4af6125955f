"""A lost checkpoint: the stream goes on in a new epoch and nothing is counted twice."""

from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.events import begin_anew, ingest_files
from data_contracts.clock import DAY, HOUR, SECOND
from data_contracts.kafka import KafkaTopic
from data_contracts.lake import Lake
from data_contracts.states import read
from data_contracts.use_case import UseCase
from spark_jobs.checkpoint import checkpoint_of
from spark_jobs.conservation import conservation
from spark_jobs.epochs import begin_epoch
from spark_jobs.feature_store import OnlineStates
from spark_jobs.stream import ingest_available
from tests.spark.lakes import ARRIVAL, NOON, copy_of, impression, land_at, rows_of, to_file

FIRST = [impression(f"a{i}", NOON + i * SECOND, user=f"u{i % 3}") for i in range(6)]
THEN: list[dict[str, Any] | bytes] = [
    b"broken",
    impression("b0", NOON + HOUR, user="u0"),
    FIRST[4],
    impression("b1", NOON + HOUR + SECOND, user="only then"),
    {**FIRST[5], "position": 9},
    impression("late", NOON - DAY, user="u1"),
]
TABLES = ("events", "duplicates", "quarantine")
USERS = ["u0", "u1", "u2", "only then"]


@pytest.fixture(scope="module")
def undisturbed(
    spark: SparkSession, clicks: UseCase, tmp_path_factory: pytest.TempPathFactory
) -> Lake:
    """A lake of two batches."""
    folder = tmp_path_factory.mktemp("undisturbed")
    lake = Lake(folder / "root", clicks.name)
    for i, log in enumerate((FIRST, THEN)):
        land_at(lake, to_file(folder / f"{i}.jsonl", log), at=ARRIVAL + i)
        ingest_available(spark, clicks, lake)
    return lake


@pytest.fixture
def lost(undisturbed: Lake, tmp_path: Path) -> Lake:
    """The same lake without its checkpoint."""
    lake = copy_of(undisturbed, tmp_path / "root")
    rmtree(checkpoint_of(lake))
    return lake


def recorded(spark: SparkSession, lake: Lake) -> dict[str, list[dict[str, Any]]]:
    """The rows of all tables but for their seq."""
    return {
        name: [{k: v for k, v in row.items() if k != "seq"} for row in rows_of(spark, path)]
        for name in TABLES
        for path in [getattr(lake, name)]
    }


def served(clicks: UseCase, lake: Lake) -> np.ndarray:
    group, online = clicks.groups[0], OnlineStates(clicks, lake)
    states = online.read(group, USERS)
    return read(group, [states.get(user) for user in USERS], NOON + 2 * HOUR)


@pytest.mark.parametrize(
    "held",
    [
        pytest.param((), marks=pytest.mark.full),
        ("events",),
        pytest.param(("events", "duplicates"), marks=pytest.mark.full),
        pytest.param(TABLES, marks=pytest.mark.full),
    ],
)
def test_a_batch_that_died_with_its_checkpoint_is_taken_once(
    spark: SparkSession,
    clicks: UseCase,
    undisturbed: Lake,
    lost: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: tuple[str, ...],
) -> None:
    """The last batch had come into the online store and the tables `held`."""
    for name in TABLES:
        if name not in held:
            DeltaTable.forPath(spark, str(getattr(lost, name))).delete("seq = 2")
    with pytest.raises(ValueError, match=r"gone, but .*--new-epoch"):
        ingest_available(spark, clicks, lost)
    deployment = Deployment("clicks", lost.root)
    monkeypatch.setitem(deployment.__dict__, "spark", spark)
    begin_anew(deployment)
    before = conservation(spark, lost)
    assert (True, 12) == (before.holds, before.records + before.waiting)

    more = to_file(tmp_path / "more.jsonl", [impression("c", NOON + HOUR), FIRST[0]])
    found = ingest_files(deployment, [more])["conservation"]
    assert (14, True) == (found["records"], found["holds"])
    other = copy_of(undisturbed, tmp_path / "other")
    land_at(other, more, at=ARRIVAL + 2)
    ingest_available(spark, clicks, other)

    expected, tables = recorded(spark, other), recorded(spark, lost)
    ours = {row["event_id"]: row for row in tables["events"]}
    for row in expected["events"]:
        if row["event_id"] != "c":
            assert row == ours[row["event_id"]]
    assert {name: len(rows) for name, rows in expected.items()} == {
        name: len(rows) for name, rows in tables.items()
    }
    np.testing.assert_array_equal(served(clicks, other), served(clicks, lost))
    seqs = {row["seq"] for row in rows_of(spark, lost.events) if row["event_id"] in ("b0", "c")}
    assert min(seqs) == 2 if "events" in held else min(seqs) > 2
    ingest_available(spark, clicks, lost)
    assert tables == recorded(spark, lost)


def test_an_epoch_that_never_began_is_begun_again_and_a_lost_one_is_followed(
    spark: SparkSession, clicks: UseCase, lost: Lake, tmp_path: Path
) -> None:
    first, again = (begin_epoch(spark, clicks, lost) for _ in range(2))
    assert (1, 2) == (first.number, again.number)
    assert (first.start, {}, True) == (again.start, again.beyond, again.seq > first.seq)
    with pytest.raises(ValueError, match="run `headrace materialize`"):
        ingest_available(spark, clicks, lost)


def test_a_checkpoint_that_is_there_is_not_given_up(
    spark: SparkSession, clicks: UseCase, undisturbed: Lake
) -> None:
    with pytest.raises(ValueError, match="checkpoint: is there: run without --new-epoch"):
        begin_epoch(spark, clicks, undisturbed)


@pytest.mark.parametrize("died", [False, True])
def test_an_older_checkpoint_is_refused_before_a_record_is_skipped(
    spark: SparkSession, clicks: UseCase, undisturbed: Lake, tmp_path: Path, died: bool
) -> None:
    """Its next batch would bear a seq that the tables hold, or only the online store, where the
    last batch died before its appends, with another line in it."""
    lake = copy_of(undisturbed, tmp_path / "root")
    if died:
        for name in TABLES:
            DeltaTable.forPath(spark, str(getattr(lake, name))).delete("seq = 2")
    for log in ("offsets", "commits"):
        for name in ("1", ".1.crc"):
            (checkpoint_of(lake) / log / name).unlink()
    to_file(lake.landing / "http-1.jsonl", [impression("new", NOON + HOUR)])
    before = recorded(spark, lake)
    holder = r"begun\.json" if died else "events"
    said = rf"up to 1, and \S+/{holder} holds batch 2: restore the newest checkpoint"
    with pytest.raises(ValueError, match=f"{said}, or move this one away and start .*--new-epoch"):
        ingest_available(spark, clicks, lake)
    topic = replace(lake, kafka=KafkaTopic("127.0.0.1:1", "shop"))
    with pytest.raises(ValueError, match=f"{said}, or move this one away and start .*--new-epoch"):
        ingest_available(spark, clicks, topic)
    assert before == recorded(spark, lake)


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_a_file_that_lacks_lines_of_the_tables_is_named(
    spark: SparkSession, clicks: UseCase, lost: Lake, damage: str
) -> None:
    file = max(lost.landing.glob("*.jsonl"))
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=f"{file.name}: holds fewer than the 6 lines"):
        begin_epoch(spark, clicks, lost)
    with pytest.raises(ValueError, match="gone, but"):
        ingest_available(spark, clicks, lost)


def test_a_lake_begins_no_epoch_with_another_topic_than_its_own(
    spark: SparkSession, clicks: UseCase, lost: Lake
) -> None:
    topic = replace(lost, kafka=KafkaTopic("127.0.0.1:1", "other"))
    with pytest.raises(ValueError, match="was begun with no Kafka topic, not with the Kafka topic"):
        begin_epoch(spark, clicks, topic)
    DeltaTable.forPath(spark, str(lost.duplicates)).update(set={"origin": "'shop/0'"})
    for lake in (lost, topic):
        with pytest.raises(ValueError, match="was begun with the Kafka topic shop, not with"):
            begin_epoch(spark, clicks, lake)
