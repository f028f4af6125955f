"""A batch whose keys come from a dimension dies anywhere, and rows are loaded before its rerun."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from data_contracts.lake import Lake
from spark_jobs.dimensions import append_rows
from spark_jobs.stream import ingest_available
from tests.spark.dying_writer import IN_A_BATCH
from tests.spark.lakes import ARRIVAL, land_at, to_file
from tests.spark.test_replay_of_a_batch import Outcome, copy_of, kill, outcome
from tests.spark.world_log import BEGIN, END, ITEM, LATER, ROWS, WORLD

pytestmark = pytest.mark.full

UNBEGUN = IN_A_BATCH[: IN_A_BATCH.index("after the gate")]
"""Places before the batch took note of what it begins with, at its gate."""


@pytest.fixture(scope="module")
def begun(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with one batch behind it and the next one landed."""
    folder = tmp_path_factory.mktemp("world")
    lake = Lake(folder / "root", WORLD.name)
    append_rows(WORLD, lake, ITEM, ROWS)
    land_at(lake, to_file(folder / "first.jsonl", BEGIN))
    ingest_available(spark, WORLD, lake)
    land_at(lake, to_file(folder / "then.jsonl", END), at=ARRIVAL + 1)
    return lake


@pytest.fixture(scope="module")
def expected(spark: SparkSession, begun: Lake) -> dict[bool, Outcome]:
    """Of undisturbed runs: by whether the later rows were loaded before the batch began."""
    found: dict[bool, Outcome] = {}
    for later in (False, True):
        lake = copy_of(begun, begun.root.with_name(f"undisturbed-{later}"))
        if later:
            append_rows(WORLD, lake, ITEM, LATER)
        ingest_available(spark, WORLD, lake)
        found[later] = outcome(spark, WORLD, lake)
    return found


@pytest.fixture(scope="module")
def dead(begun: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dead")
    for place in IN_A_BATCH:
        copy_of(begun, folder / place)
    kill(folder, *IN_A_BATCH, use_case=WORLD.name)
    return folder


def test_the_rows_that_come_later_would_change_keys(expected: dict[bool, Outcome]) -> None:
    before, after = expected[False], expected[True]
    assert before.counted and before.counted.holds
    assert (37, 2, 1, 1) == (
        before.counted.events, before.counted.duplicates,
        before.counted.conflicts, before.counted.quarantined,
    )  # fmt: skip
    said = [{row["category"] for row in at.tables["events"]} for at in (before, after)]
    assert [{"c0", "c1", None}, {"c0", "c1", "c2", "c3"}] == said
    assert before.states["user"] == after.states["user"]
    assert set(before.states["taste"]) < set(after.states["taste"])


def test_the_writers_died_between_and_amid_the_groups(
    spark: SparkSession, expected: dict[bool, Outcome], dead: Path
) -> None:
    def states(place: str) -> dict[str, object]:
        return dict(outcome(spark, WORLD, Lake(dead / place, WORLD.name), False).states)

    whole = expected[False].states
    between, amid, merged = map(
        states, ("between two groups", "amid the last group", "before the append")
    )
    for found in (between, amid):
        assert (whole["user"], whole["item"]) == (found["user"], found["item"])
        assert whole["taste"] != found["taste"]
    assert between["taste"] != amid["taste"]
    assert whole == merged


@pytest.mark.parametrize("place", IN_A_BATCH)
def test_a_batch_that_died_keeps_the_attributes_that_it_began_with(
    spark: SparkSession, expected: dict[bool, Outcome], dead: Path, place: str
) -> None:
    lake = Lake(dead / place, WORLD.name)
    append_rows(WORLD, lake, ITEM, LATER)
    ingest_available(spark, WORLD, lake)
    assert expected[place in UNBEGUN] == outcome(spark, WORLD, lake)
