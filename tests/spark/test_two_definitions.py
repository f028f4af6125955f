"""Two definitions of a group served side by side, while the stream runs."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from data_contracts.aggregates import Count, Mean
from data_contracts.clock import HOUR, MINUTE
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.use_case import UseCase
from data_contracts.views import ViewRegistry, digests_of
from serving.features import FeatureReader
from spark_jobs.feature_store import OnlineStates
from spark_jobs.materialize import Materialized, materialize
from spark_jobs.stream import RunningStream, ingest_available, running_stream
from spark_jobs.tables import load
from spark_jobs.tiles import backfill_tiles
from spark_jobs.view_keeper import retire
from tests.spark.lakes import NOON, click, impression, land_at, to_file, typed

USERS = ("u1", "u2", "u3")


@dataclass(frozen=True)
class Sides:
    """A lake in which the stream of the old declaration runs while the new one is built."""

    lake: Lake
    old: UseCase
    new: UseCase
    log: list[dict[str, Any]]
    stream: RunningStream


@pytest.fixture(scope="module")
def sides(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, clicks: UseCase
) -> Iterator[Sides]:
    """Landed in three parts: before the new definition, between its build and load, and late."""
    folder = tmp_path_factory.mktemp("two_definitions")
    lake = Lake(folder, clicks.name)
    new = changed(clicks)
    early = [impression(f"e{i}", NOON + i * MINUTE, USERS[i % 2]) for i in range(12)]
    middle = [click(f"e{i}", NOON + 20 * MINUTE + i, USERS[i % 2]) for i in range(4)]
    late = [impression("late", NOON - HOUR, "u3"), impression("later", NOON + 3 * MINUTE, "u1")]
    land_at(lake, to_file(folder / "early.jsonl", early), at=NOON + HOUR)
    ingest_available(spark, clicks, lake)
    backfill_tiles(spark, clicks, lake, clicks.groups)
    with running_stream(spark, clicks, lake) as stream:
        land_at(lake, to_file(folder / "middle.jsonl", middle), at=NOON + HOUR + 1)
        stream.catch_up()
        beside(stream, lambda: materialize(spark, new, lake))
        land_at(lake, to_file(folder / "late.jsonl", late), at=NOON + HOUR + 2)
        stream.catch_up()
        yield Sides(lake, clicks, new, [*early, *middle, *late], stream)


def changed(clicks: UseCase) -> UseCase:
    """The user's clicks counted otherwise, and one aggregate more; the item's group as it was."""
    user = clicks.groups[0]
    aggregates = {
        **user.aggregates,
        "clicks": Count(where=("click", "impression")),
        "closeness": Mean("affinity", scale=1000),
    }
    groups = (replace(user, aggregates=aggregates), *clicks.groups[1:])
    return replace(clicks, declared=replace(clicks.declared, groups=groups))


def beside(stream: RunningStream, work: Callable[[], object]) -> None:
    """Do `work` in another thread while the stream is followed, as a command does beside it."""
    failures: list[Exception] = []

    def safely() -> None:
        try:
            work()
        except Exception as error:
            failures.append(error)

    thread = Thread(target=safely)
    thread.start()
    while thread.is_alive():
        stream.ended(1)
    assert [] == failures


def served(use_case: UseCase, lake: Lake, q: int) -> np.ndarray:
    reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
    found = reader.read_now([{"user_id": user, "item_id": "i1"} for user in USERS], q)
    assert 0 == reader.failures
    return found.values


def expected(use_case: UseCase, log: list[dict[str, Any]], q: int) -> list[list[float]]:
    events = typed(use_case, log)

    def of(group: FeatureGroup, user: str) -> list[float]:
        return oracle_features(group, events, user if group.entity == "user_id" else "i1", q)

    return [[v for group in use_case.groups for v in of(group, user)] for user in USERS]


def test_models_on_both_definitions_read_right_values_through_a_late_event(sides: Sides) -> None:
    for q in (NOON + HOUR + MINUTE, NOON + 25 * HOUR):
        for use_case in (sides.old, sides.new):
            assert expected(use_case, sides.log, q) == served(use_case, sides.lake, q).tolist()


def test_only_what_changed_is_a_view_of_its_own(sides: Sides) -> None:
    views = list(ViewRegistry(sides.lake).views().values())
    assert ["user", "item", "user"] == [view.group.name for view in views]
    assert ["ready"] * 3 == [view.status for view in views]
    assert {"clicks", "closeness", "impressions"} == set(views[2].group.aggregates)


@pytest.mark.full
def test_states_rebuilt_beside_the_stream_are_healed_and_rebuilt_again_are_the_same(
    spark: SparkSession, sides: Sides
) -> None:
    views = ViewRegistry(sides.lake).views().values()
    group = next(view.group for view in views if "closeness" in view.group.aggregates)
    writer = OnlineStates(sides.new, sides.lake)
    writer.write(group, {"u1": writer.read(group, ["u3"])["u3"]})
    found: list[Materialized] = []
    for _ in range(2):
        beside(sides.stream, lambda: found.append(materialize(spark, sides.new, sides.lake)))
    assert [True, False] == [each.mismatches > 0 for each in found]
    q = NOON + HOUR + MINUTE
    assert expected(sides.new, sides.log, q) == served(sides.new, sides.lake, q).tolist()


def test_a_retired_definition_leaves_neither_states_nor_tiles(
    spark: SparkSession, sides: Sides
) -> None:
    before = ViewRegistry(sides.lake).views()
    name, view = next((n, v) for n, v in before.items() if "closeness" in v.group.aggregates)
    other = next(n for n in before if n != name)
    backfill_tiles(spark, sides.new, sides.lake, [view.group])
    tiles = load(spark, sides.lake.tiles)
    assert tiles.where(f"digest = '{view.group.digest}'").count() > 0
    beside(sides.stream, lambda: retire(spark, sides.new, sides.lake, [name]))
    assert "retired" == ViewRegistry(sides.lake).views()[name].status
    with closing(sqlite3.connect(sides.lake.online_file)) as file:
        tables = [row[0] for row in file.execute("SELECT name FROM sqlite_master")]
    assert [True, False] == [any(view in table for table in tables) for view in (other, name)]
    assert 0 == load(spark, sides.lake.tiles).where(f"digest = '{view.group.digest}'").count()
    with pytest.raises(ValueError, match="user_closeness_10m"):
        served(sides.new, sides.lake, NOON)
    assert (
        expected(sides.old, sides.log, NOON + HOUR + MINUTE)
        == served(sides.old, sides.lake, NOON + HOUR + MINUTE).tolist()
    )
