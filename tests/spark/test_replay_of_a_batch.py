"""A micro-batch that died is taken again from the start and leaves what an undisturbed one does."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from dagster_project.stages.parity import as_served
from data_contracts.clock import DAY, HOUR, SECOND
from data_contracts.keys import text_of
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.conservation import Conservation, conservation
from spark_jobs.feature_store import OnlineStates
from spark_jobs.materialize import materialize
from spark_jobs.stream import ingest_available
from spark_jobs.tiles import backfill_tiles
from tests.spark.dying_writer import BEHIND_IT, IN_A_BATCH
from tests.spark.lakes import ARRIVAL, NOON, click, copy_of, impression, land_at, to_file

REPOSITORY = Path(__file__).parents[2]
KEYS = {
    "user": [f"u{i}" for i in range(4)],
    "item": [f"i{i}" for i in range(5)],
    "taste": [text_of((f"u{i}", f"c{j}")) for i in range(4) for j in range(4)],
}
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
    read: dict[str, list[list[list[float]]]]
    """Per group, what a server reads of its keys a moment and an hour after the last arrival."""
    counted: Conservation | None


@pytest.fixture(scope="module")
def begun(spark: SparkSession, clicks: UseCase, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with one batch and its tiles behind it and the next batch landed."""
    folder = tmp_path_factory.mktemp("begun")
    lake = Lake(folder / "root", clicks.name)
    land_at(lake, to_file(folder / "first.jsonl", FIRST))
    ingest_available(spark, clicks, lake)
    backfill_tiles(spark, clicks, lake, clicks.groups)
    land_at(lake, to_file(folder / "then.jsonl", THEN), at=ARRIVAL + 1)
    return lake


@pytest.fixture(scope="module")
def undisturbed(spark: SparkSession, clicks: UseCase, begun: Lake) -> Lake:
    lake = copy_of(begun, begun.root.with_name("undisturbed"))
    ingest_available(spark, clicks, lake)
    return lake


@pytest.fixture(scope="module")
def expected(spark: SparkSession, clicks: UseCase, undisturbed: Lake) -> Outcome:
    return outcome(spark, clicks, undisturbed)


@pytest.fixture(scope="module")
def built(spark: SparkSession, clicks: UseCase, undisturbed: Lake) -> list[dict[str, Any]]:
    """The tiles of an undisturbed run."""
    lake = copy_of(undisturbed, undisturbed.root.with_name("built"))
    backfill_tiles(spark, clicks, lake, clicks.groups)
    return tiles(lake)


@pytest.fixture(scope="module")
def dead(begun: Lake, undisturbed: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of lakes, each left behind by a writer that was killed at the place of its name."""
    folder = tmp_path_factory.mktemp("dead")
    for place in IN_A_BATCH:
        copy_of(begun, folder / place)
    for place in BEHIND_IT:
        copy_of(undisturbed, folder / place)
    kill(folder, *IN_A_BATCH, *BEHIND_IT)
    return folder


def kill(folder: Path, *places: str, use_case: str = "clicks") -> None:
    command = [sys.executable, "-m", "tests.spark.dying_writer", use_case, str(folder), *places]
    told = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, start_new_session=True
    )
    assert -signal.SIGKILL == told.returncode, told.stderr


def outcome(
    spark: SparkSession,
    clicks: UseCase,
    lake: Lake,
    counted: bool = True,
) -> Outcome:
    tables = {n: table(getattr(lake, n)) for n in ("events", "duplicates", "quarantine")}
    online = OnlineStates(clicks, lake)
    states = {
        group.name: {
            key: (state.seq, state.as_of, [rows.tolist() for rows in state.rows.tables])
            for key, state in online.read(group, KEYS[group.name]).items()
        }
        for group in clicks.groups
    }
    if not counted:
        return Outcome(tables, states, {}, None)
    at = 1 + max(as_of for held in states.values() for _, as_of, _ in held.values())
    read: dict[str, list[list[list[float]]]] = {}
    for group in clicks.groups:
        served = as_served(clicks, lake, group)
        read[group.name] = [served(KEYS[group.name], q).tolist() for q in (at, at + HOUR)]
    return Outcome(tables, states, read, conservation(spark, lake))


def table(path: Path, order: tuple[str, ...] = ("origin", "line")) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    held = DeltaTable(path).to_pyarrow_table()
    return held.sort_by([(name, "ascending") for name in order]).to_pylist()


def tiles(lake: Lake) -> list[dict[str, Any]]:
    return table(lake.tiles, ("group", "key", "day"))


def test_the_undisturbed_run_is_worth_comparing_with(
    expected: Outcome, begun: Lake, built: list[dict[str, Any]]
) -> None:
    assert 2 == len({str(values) for values in expected.read["user"]})
    assert tiles(begun) != built
    counted = expected.counted
    assert counted and counted.holds
    assert (24, 2, 1, 1) == (
        counted.events, counted.duplicates, counted.conflicts, counted.quarantined
    )  # fmt: skip
    assert {1, 2} == {row["seq"] for row in expected.tables["events"]}


def test_the_writers_died_where_they_were_to_die(
    spark: SparkSession, clicks: UseCase, expected: Outcome, dead: Path
) -> None:
    lakes = {place: Lake(dead / place, clicks.name) for place in IN_A_BATCH}
    found = {place: outcome(spark, clicks, lake, False) for place, lake in lakes.items()}
    merged = IN_A_BATCH.index("before the append")
    for place in IN_A_BATCH[:4]:
        assert expected.states["item"] != found[place].states["item"], place
    assert expected.states["user"] == found["between two groups"].states["user"]
    for place in IN_A_BATCH[merged:]:
        assert expected.states == found[place].states, place
    appended = {place: 12 < len(at.tables["events"]) for place, at in found.items()}
    assert [False] * 8 + [True] * 4 == list(appended.values())
    assert [] == found["before the duplicates"].tables["duplicates"]
    assert [] == found["before the quarantine"].tables["quarantine"]
    committed = {
        place: (dead / place / clicks.name / "stream" / "checkpoint" / "commits" / "1").exists()
        for place in IN_A_BATCH
    }
    assert {place: place == "after the commit" for place in IN_A_BATCH} == committed
    for place in ("before the gate", "before the quarantine"):
        assert conservation(spark, lakes[place]).holds, "what is under way is not judged"


@pytest.mark.parametrize("place", IN_A_BATCH)
def test_a_batch_that_died_is_taken_again_and_leaves_what_an_undisturbed_one_does(
    spark: SparkSession, clicks: UseCase, expected: Outcome, built: list[dict[str, Any]],
    dead: Path, place: str,
) -> None:  # fmt: skip
    """Events and what stands beside them, states, what a server reads, conservation, and tiles."""
    lake = Lake(dead / place, clicks.name)
    ingest_available(spark, clicks, lake)
    assert expected == outcome(spark, clicks, lake)
    backfill_tiles(spark, clicks, lake, clicks.groups)
    assert built == tiles(lake)


def test_a_materialize_that_died_is_run_again_and_meanwhile_the_stream_goes_on(
    spark: SparkSession, clicks: UseCase, expected: Outcome, dead: Path
) -> None:
    lake = Lake(dead / "amid materialize", clicks.name)
    ingest_available(spark, clicks, lake)
    found = materialize(spark, clicks, lake)
    assert (9, 0) == (found.keys, found.mismatches)
    assert expected.tables == outcome(spark, clicks, lake).tables


def test_a_backfill_that_died_left_the_old_tiles_and_is_run_again(
    spark: SparkSession, clicks: UseCase, begun: Lake, built: list[dict[str, Any]], dead: Path
) -> None:
    lake = Lake(dead / "amid a backfill", clicks.name)
    assert tiles(begun) == tiles(lake)
    backfill_tiles(spark, clicks, lake, clicks.groups)
    assert built == tiles(lake)


@pytest.mark.full
@pytest.mark.parametrize("first", IN_A_BATCH[:-1])
def test_a_batch_that_dies_again_wherever_it_comes_to_ends_the_same(
    spark: SparkSession, clicks: UseCase, begun: Lake, expected: Outcome,
    built: list[dict[str, Any]], tmp_path: Path, first: str,
) -> None:  # fmt: skip
    copy_of(begun, tmp_path / first)
    kill(tmp_path, first)
    # What the first death left in the tables is not appended again: no writer stands still there.
    done = IN_A_BATCH.index("amid the append")
    begins = done if IN_A_BATCH.index(first) > done else -1
    again = [p for i, p in enumerate(IN_A_BATCH) if p != first and i != begins]
    # A third of the pairs: every place is the second one, after two to four others.
    again = again[IN_A_BATCH.index(first) % 3 :: 3]
    for place in again:
        copy_of(Lake(tmp_path / first, clicks.name), tmp_path / place)
    kill(tmp_path, *again)
    for place in again:
        lake = Lake(tmp_path / place, clicks.name)
        ingest_available(spark, clicks, lake)
        assert expected == outcome(spark, clicks, lake), place
        backfill_tiles(spark, clicks, lake, clicks.groups)
        assert built == tiles(lake), place
