"""Packed tiles: one row per (group, key, day), a function of that day's events up to a seq."""

from collections.abc import Iterator
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
from data_contracts.states import State, encode, split
from data_contracts.tiles import fold, raw_rows
from data_contracts.use_case import UseCase
from spark_jobs.columns import codes, to_events
from spark_jobs.events import load_events
from spark_jobs.schemas import TILES
from spark_jobs.tables import exists, load, replace

END_OF_TIME = np.iinfo(np.int64).max


@dataclass(frozen=True)
class PackedDays:
    """A backfill between its read and its commit."""

    seq: int
    """The tiles hold the events up to this seq."""
    span: str
    """The predicate on `day` of the partitions that they replace."""
    rows: DataFrame


def backfill_tiles(
    spark: SparkSession, use_case: UseCase, lake: Lake, first: str, last: str
) -> int:
    """Rebuild the tiles of the days `first` … `last` (YYYY-MM-DD, both included).

    Returns the number of tile rows of those days.
    """
    packed = pack_days(spark, use_case, lake, first, last)
    commit_days(spark, lake, packed)
    return load(spark, lake.tiles).where(packed.span).count()


def pack_days(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    first: str = "0001-01-01",
    last: str = "9999-12-31",
) -> PackedDays:
    """Read and pack the events of those days as they are now; ValueError where the tiles that stand
    there say more than the events table holds."""
    events = load_events(spark, use_case, lake)
    newest = events.agg(sf.max("seq")).first()
    seq = int(newest[0]) if newest and newest[0] is not None else 0
    span = f"day >= '{first}' AND day <= '{last}'"
    if (above := _held(spark, lake, span)) > seq:
        raise ValueError(
            f"{lake.tiles}: days {first} … {last} hold seq {above}, events end at {seq}: "
            "the events table was rolled back; restore it or delete the tiles"
        )
    days = events.where(sf.col("seq") <= seq).withColumn(
        "day", sf.date_format("event_time", "yyyy-MM-dd")
    )
    every = reduce(
        DataFrame.unionByName,
        [_tiles_of(group, days.where(span), seq) for group in use_case.groups],
    )
    return PackedDays(seq, span, every)


def commit_days(spark: SparkSession, lake: Lake, packed: PackedDays) -> None:
    """Replace the partitions, unless another backfill filled them up to a higher seq meanwhile."""
    if not exists(spark, lake.tiles):
        replace(packed.rows, lake.tiles)
    elif _held(spark, lake, packed.span) <= packed.seq:
        replace(packed.rows, lake.tiles, packed.span)


def _held(spark: SparkSession, lake: Lake, span: str) -> int:
    """The highest seq of the tiles of those days, 0 where there are none."""
    if not exists(spark, lake.tiles):
        return 0
    row = load(spark, lake.tiles).where(span).agg(sf.max("seq")).first()
    return int(row[0]) if row and row[0] is not None else 0


def _tiles_of(group: FeatureGroup, days: DataFrame, seq: int) -> DataFrame:
    arrow = to_arrow_schema(TILES)

    def pack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tables = list(batches)
        if tables:
            rows = day_tiles(group, pa.Table.from_batches(tables), seq)
            yield pa.RecordBatch.from_pylist(rows, schema=arrow)

    present = days.where(sf.col(group.entity).isNotNull())
    keyed = present.withColumn("key", sf.col(group.entity)).repartition("key")
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
