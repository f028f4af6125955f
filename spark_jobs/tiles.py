"""Packed tiles: one row per (group, key, day), a function of that day's events up to a seq."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import to_arrow_schema

from data_contracts.clock import DAY, parse_time
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.online import view_name
from data_contracts.states import State, encode, split
from data_contracts.tiles import fold, raw_rows
from data_contracts.use_case import UseCase
from data_contracts.views import ViewRegistry
from spark_jobs.columns import codes, to_events
from spark_jobs.events import load_events, with_day
from spark_jobs.keys import key_column
from spark_jobs.schemas import TILES
from spark_jobs.tables import BUSY, exists, load, newest_seq, replace

FIRST_DAY, LAST_DAY = "0001-01-01", "9999-12-31"
"""No event's time lies on a day before or after them."""

END_OF_TIME = np.iinfo(np.int64).max

EVENTS_AT_ONCE = 2_000_000
"""About how many events one commit of a backfill covers: what an interruption loses."""
TRIES = 5
"""How often days are built where another's commit comes first: each time that one got on."""


@dataclass(frozen=True)
class Stale:
    """Days whose tiles lack events, for definitions that lack the same days."""

    groups: tuple[FeatureGroup, ...]
    days: Mapping[str, int]
    """YYYY-MM-DD -> how many events the day has; oldest first."""

    def chunks(self) -> Iterator["Stale"]:
        """The same in pieces of about `EVENTS_AT_ONCE` events."""
        days: dict[str, int] = {}
        for day, count in self.days.items():
            if days and sum(days.values()) + count > EVENTS_AT_ONCE:
                yield Stale(self.groups, days)
                days = {}
            days[day] = count
        if days:
            yield Stale(self.groups, days)


@dataclass(frozen=True)
class PackedDays:
    """A backfill between its read and its commit."""

    seq: int
    """The tiles hold the events up to this seq."""
    where: str
    """The predicate of the rows that they replace."""
    rows: DataFrame


@dataclass(frozen=True)
class Backfilled:
    """What a backfill did."""

    tiles: int
    """Rows that the asked days hold now."""
    rebuilt_days: int
    """Days that were built, each counted once per definition; 0 where no day's input had grown."""
    events: int
    """The events of these days, counted alike."""


def backfill_tiles(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    groups: Sequence[FeatureGroup],
    first: str = FIRST_DAY,
    last: str = LAST_DAY,
) -> Backfilled:
    """Bring the tiles of the days `first` … `last` (YYYY-MM-DD, both included) up to their events.

    Only days that have gained events are built, a commit for about `EVENTS_AT_ONCE` of them: what
    was committed before an interruption is not built again. Days that upkeep or another backfill
    rewrote first are read and packed anew, `TRIES` times in all; then one of `BUSY` is raised.
    """
    rebuilt = packed = 0
    for stale in stale_days(spark, use_case, lake, groups, first, last):
        for chunk in stale.chunks():
            _build(spark, use_case, lake, chunk)
            rebuilt += len(chunk.groups) * len(chunk.days)
            packed += len(chunk.groups) * sum(chunk.days.values())
    return Backfilled(_tile_count(spark, lake, groups, first, last), rebuilt, packed)


def _build(spark: SparkSession, use_case: UseCase, lake: Lake, days: Stale) -> None:
    for _ in range(TRIES - 1):
        with suppress(*BUSY):
            return commit_days(spark, lake, pack_days(spark, use_case, lake, days))
    return commit_days(spark, lake, pack_days(spark, use_case, lake, days))


def own_rows(group: FeatureGroup) -> str:
    """The predicate of a group's rows of `TILES`, as it is declared now."""
    return f"(`group` = '{group.name}' AND digest = '{group.digest}')"


def stale_days(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    groups: Sequence[FeatureGroup],
    first: str = FIRST_DAY,
    last: str = LAST_DAY,
) -> list[Stale]:
    """Which days of which definitions lack events; ValueError where tiles say more than the events
    table holds."""
    events = load_events(spark, use_case, lake).transform(with_day)
    events = events.where(sf.col("day").between(first, last))
    keyed = [sf.max(sf.when(key_column(g.key_fields).isNotNull(), sf.col("seq"))) for g in groups]
    grown = events.groupBy("day").agg(sf.count("*"), *keyed).collect()
    held = _held_days(spark, lake, first, last)
    above, newest = max(held.values(), default=0), newest_seq(spark, lake.events)
    if above > newest:
        raise ValueError(
            f"{lake.tiles}: days {first} … {last} hold seq {above}, events end at {newest}: "
            "the events table was rolled back; restore it or delete the tiles"
        )
    views = ViewRegistry(lake).views()
    counts = {row[0]: int(row[1]) for row in sorted(grown)}
    lacking: dict[tuple[str, ...], list[FeatureGroup]] = {}
    for i, group in enumerate(groups):
        needs = {row[0]: row[2 + i] for row in grown if row[2 + i] is not None}
        view = views.get(view_name(group))
        days = [
            day
            for day in sorted(needs)
            if day >= (view.tiles_from if view else "")
            and held.get((group.name, group.digest, day), 0) < needs[day]
        ]
        lacking.setdefault(tuple(days), []).append(group)
    return [Stale(tuple(g), {d: counts[d] for d in days}) for days, g in lacking.items() if days]


def pack_days(spark: SparkSession, use_case: UseCase, lake: Lake, stale: Stale) -> PackedDays:
    """Read and pack the events of those days as they are now."""
    seq = newest_seq(spark, lake.events)
    events = load_events(spark, use_case, lake).where(sf.col("seq") <= seq)
    days = events.transform(with_day).where(sf.col("day").isin(list(stale.days)))
    every = [_tiles_of(group, days, seq) for group in stale.groups]
    names = ", ".join(f"'{day}'" for day in stale.days)
    where = f"({' OR '.join(map(own_rows, stale.groups))}) AND day IN ({names})"
    return PackedDays(seq, where, reduce(DataFrame.unionByName, every))


def commit_days(spark: SparkSession, lake: Lake, packed: PackedDays) -> None:
    """Replace those days, unless another backfill filled one up to a higher seq meanwhile."""
    if not exists(spark, lake.tiles):
        replace(packed.rows, lake.tiles)
        return
    held = load(spark, lake.tiles).where(packed.where).agg(sf.max("seq")).first()
    if held is None or held[0] is None or held[0] <= packed.seq:
        replace(packed.rows, lake.tiles, packed.where)


def _held_days(
    spark: SparkSession, lake: Lake, first: str, last: str
) -> dict[tuple[str, str, str], int]:
    """(group, digest, day) -> the lowest seq of its tiles."""
    if not exists(spark, lake.tiles):
        return {}
    tiles = load(spark, lake.tiles).where(sf.col("day").between(first, last))
    rows = tiles.groupBy("group", "digest", "day").agg(sf.min("seq")).collect()
    return {(row[0], row[1], row[2]): int(row[3]) for row in rows}


def _tile_count(
    spark: SparkSession, lake: Lake, groups: Sequence[FeatureGroup], first: str, last: str
) -> int:
    if not exists(spark, lake.tiles):
        return 0
    tiles = load(spark, lake.tiles).where(sf.col("day").between(first, last))
    return tiles.where(" OR ".join(map(own_rows, groups)) or "false").count()


def _tiles_of(group: FeatureGroup, days: DataFrame, seq: int) -> DataFrame:
    arrow = to_arrow_schema(TILES)

    def pack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tables = list(batches)
        if tables:
            rows = day_tiles(group, pa.Table.from_batches(tables), seq)
            yield pa.RecordBatch.from_pylist(rows, schema=arrow)

    keyed = days.withColumn("key", key_column(group.key_fields)).where("key IS NOT NULL")
    keyed = keyed.repartition("key")
    return keyed.mapInArrow(pack, TILES)


def day_tiles(group: FeatureGroup, events: pa.Table, seq: int) -> list[dict[str, Any]]:
    """Rows of `TILES` from whole days of whole keys: events with the columns `day` and `key`."""
    pairs = zip(events["day"].to_pylist(), events["key"].to_pylist(), strict=True)
    code, names = codes(pa.array([f"{day}\x1f{key}" for day, key in pairs], pa.string()))
    raw = raw_rows(group, code, to_events([group], events))
    tiles = split(fold(group, raw, np.full(len(names), END_OF_TIME)), len(names))
    found: list[dict[str, Any]] = []
    for name, rows in zip(names, tiles, strict=True):
        day, key = name.split("\x1f", 1)
        end = parse_time(f"{day}T00:00:00Z") + DAY
        packed = encode(group, State(seq, end, rows))
        found.append({"group": group.name, "digest": group.digest, "key": key, "day": day,
                      "seq": seq, "state": packed})  # fmt: skip
    return found
