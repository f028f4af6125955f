"""Packed tiles: one row per (group, key, day), a function of that day's events up to a seq."""

from collections.abc import Iterator

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


def backfill_tiles(
    spark: SparkSession, use_case: UseCase, lake: Lake, first: str, last: str
) -> int:
    """Rebuild the tiles of the days `first` … `last` (YYYY-MM-DD, both included).

    Replaces those partitions, unless they were built from a higher seq already. Returns the number
    of tile rows of those days.
    """
    events = load_events(spark, use_case, lake)
    newest = events.agg(sf.max("seq")).first()
    seq = int(newest[0]) if newest and newest[0] is not None else 0
    span = f"day >= '{first}' AND day <= '{last}'"
    if exists(spark, lake.tiles):
        above = load(spark, lake.tiles).where(span).agg(sf.max("seq")).first()
        if above and above[0] is not None and above[0] > seq:
            raise ValueError(
                f"{lake.tiles}: days {first} … {last} hold seq {above[0]}, events end at {seq}: "
                "the events table was rolled back; restore it or delete the tiles"
            )
    days = events.where(sf.col("seq") <= seq).withColumn(
        "day", sf.date_format("event_time", "yyyy-MM-dd")
    )
    days = days.where(span)
    rows = [_tiles_of(group, days, seq) for group in use_case.groups]
    every = rows[0]
    for more in rows[1:]:
        every = every.unionByName(more)
    if exists(spark, lake.tiles):
        replace(every, lake.tiles, span)
    else:
        replace(every, lake.tiles)
    return load(spark, lake.tiles).where(span).count()


def _tiles_of(group: FeatureGroup, days: DataFrame, seq: int) -> DataFrame:
    arrow = to_arrow_schema(TILES)

    def pack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tables = list(batches)
        if not tables:
            return
        table = pa.Table.from_batches(tables)
        pairs = pa.array(
            [
                f"{d}\x1f{k}"
                for d, k in zip(table["day"].to_pylist(), table["key"].to_pylist(), strict=True)
            ]
        )
        code, names = codes(pairs)
        raw = raw_rows(group, code, to_events([group], table))
        tiles = split(fold(group, raw, np.full(len(names), END_OF_TIME)), len(names))
        out = []
        for name, rows in zip(names, tiles, strict=True):
            day, key = name.split("\x1f", 1)
            end = parse_time(f"{day}T00:00:00Z") + DAY
            packed = encode(group, State(seq, end, rows))
            out.append({"group": group.name, "digest": group.digest, "key": key, "day": day,
                        "seq": seq, "state": packed})  # fmt: skip
        yield pa.RecordBatch.from_pylist(out, schema=arrow)

    present = days.where(sf.col(group.entity).isNotNull())
    keyed = present.withColumn("key", sf.col(group.entity)).repartition("key")
    return keyed.mapInArrow(pack, TILES)
