"""Old tiles: those that no window reaches are deleted, those of lifetimes folded into one base.

A base is a row of `TILES` per key: all events of the days before its `day`, up to its seq. Tiles of
such days count for nothing beside it, so that a kill between its commit and their deletion, or a
backfill that brings them back, changes no value.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import day_of
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.online import view_name
from data_contracts.states import State, encode
from data_contracts.use_case import UseCase
from data_contracts.views import ViewRegistry, kept_up
from data_contracts.windows import Lifetime
from spark_jobs.materialize import load_packed, merged_states, packed_and_later
from spark_jobs.schemas import TILES
from spark_jobs.tables import exists, load, replace
from spark_jobs.tiles import FIRST_DAY, own_rows


@dataclass(frozen=True)
class FoldedTiles:
    """What became of the tiles that lie behind every bounded window."""

    deleted: int
    """Tile rows of days that no window reaches, or that a base holds now."""
    bases: int
    """Keys whose base was written."""


def fold_tiles(
    spark: SparkSession, use_case: UseCase, lake: Lake, seq: int, as_of: int
) -> FoldedTiles:
    """Fold and delete what lies behind the windows at `as_of` (µs); run twice it does nothing more.

    `seq` is the last of the events table, `as_of` its latest arrival.
    """
    deleted = bases = 0
    if not exists(spark, lake.tiles):
        return FoldedTiles(0, 0)
    registry = ViewRegistry(lake)
    for group in kept_up(use_case, lake):
        day = horizon(group, as_of)
        behind = load(spark, lake.tiles).where(f"{own_rows(group)} AND day < '{day}'").count()
        if not behind:
            continue
        if forgets_nothing(group):
            bases += _fold(spark, use_case, lake, group, day, seq, as_of)
        if (view := registry.views().get(view_name(group))) is not None:
            registry.change(view, tiles_from=max(day, view.tiles_from))
        DeltaTable.forPath(spark, str(lake.tiles)).delete(f"{own_rows(group)} AND day < '{day}'")
        deleted += behind
    return FoldedTiles(deleted, bases)


def horizon(group: FeatureGroup, as_of: int) -> str:
    """The first day (YYYY-MM-DD) that a bounded window of the group reaches at `as_of` (µs)."""
    bounded = [window for window in group.windows if not isinstance(window, Lifetime)]
    return day_of(min([as_of, *(window.bounds(as_of)[0] for window in bounded)]))


def forgets_nothing(group: FeatureGroup) -> bool:
    """Whether a window of the group reaches back to its epoch for ever."""
    return any(isinstance(window, Lifetime) for window in group.windows)


def base_rows(group: FeatureGroup, states: dict[str, State], day: str) -> list[dict[str, object]]:
    """Rows of `TILES` of the states of all events before `day`."""
    return [
        {"group": group.name, "digest": group.digest, "key": key, "day": day, "seq": state.seq,
         "state": encode(group, state)}
        for key, state in states.items()
    ]  # fmt: skip


def _fold(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    group: FeatureGroup,
    day: str,
    seq: int,
    as_of: int,
) -> int:
    """Replace the group's base by one of the days before `day`, unless that holds them already."""
    held: Iterable[str] = load_packed(spark, lake.tile_bases, group)["day"].to_pylist()
    if max(held, default="") >= day:
        return 0
    packed, later = packed_and_later(spark, use_case, lake, group, seq, FIRST_DAY, day)
    states = merged_states(group, packed, later.where(sf.col("day") < day).toArrow(), seq, as_of)
    rows = pa.Table.from_pylist(base_rows(group, states, day))
    first = not exists(spark, lake.tile_bases)
    replace(spark.createDataFrame(rows, TILES), lake.tile_bases, None if first else own_rows(group))
    return len(states)
