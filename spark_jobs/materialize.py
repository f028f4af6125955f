"""The online store rebuilt from Delta: closed days from tiles, the rest from events."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import day_of
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.states import State, decode, of_key, read, split
from data_contracts.tiles import concat, expire, fold, raw_rows
from data_contracts.use_case import UseCase
from data_contracts.windows import HOPS
from spark_jobs.columns import arrivals, codes, to_events
from spark_jobs.events import load_events
from spark_jobs.feature_store import OnlineStates
from spark_jobs.lease import writer_lease
from spark_jobs.schemas import TILES
from spark_jobs.tables import exists, load


@dataclass(frozen=True)
class Materialized:
    """What a rebuild wrote, and how it compares with what it replaced."""

    keys: int
    as_of: int
    """µs; the time up to which the states hold tiles."""
    compared: int
    """Feature values of keys that the stream had written, read from both states."""
    mismatches: int
    """Of those, values that differ: 0 unless stream or tiles are wrong."""


def materialize(spark: SparkSession, use_case: UseCase, lake: Lake) -> Materialized:
    """Rebuild and write the state of every key; holds the writer's lease meanwhile."""
    with writer_lease(lake.stream):
        online = OnlineStates(use_case, lake)
        events = load_events(spark, use_case, lake)
        newest = events.agg(sf.max("seq").alias("seq")).first()
        seq = int(newest["seq"]) if newest and newest["seq"] is not None else 0
        stamps = events.select("event_time", "arrived_at").toArrow()
        as_of = int(arrivals(stamps).max(initial=0))
        keys = compared = mismatches = 0
        for group in use_case.groups:
            states = rebuild(spark, use_case, lake, group, seq, as_of)
            same, differ = _compare(group, online.packed(group, states), states, as_of)
            online.write(group, states)
            keys, compared, mismatches = keys + len(states), compared + same, mismatches + differ
        online.mark_complete()
    return Materialized(keys, as_of, compared, mismatches)


def rebuild(
    spark: SparkSession, use_case: UseCase, lake: Lake, group: FeatureGroup, seq: int, as_of: int
) -> dict[str, State]:
    """The state of every key at `as_of`, from the tiles of the days before it, where there are
    any, and the events above them."""
    today = day_of(as_of)
    horizon = day_of(min(window.bounds(as_of)[0] for window in group.windows))
    filled = exists(spark, lake.tiles)
    every = load(spark, lake.tiles) if filled else spark.createDataFrame([], TILES)
    tiles = every.where(
        (sf.col("group") == group.name) & (sf.col("digest") == group.digest)
        & (sf.col("day") >= horizon) & (sf.col("day") < today)
    )  # fmt: skip
    built = tiles.groupBy("day").agg(sf.max("seq").alias("built_seq"))
    events = load_events(spark, use_case, lake).where(
        sf.col(group.entity).isNotNull() & (sf.col("seq") <= seq)
    )
    events = events.withColumn("day", sf.date_format("event_time", "yyyy-MM-dd"))
    events = events.where(sf.col("day") >= horizon).join(sf.broadcast(built), "day", "left")
    fresh = events.where(sf.col("built_seq").isNull() | (sf.col("seq") > sf.col("built_seq")))
    packed = tiles.select("key", "state").toArrow()
    later = fresh.withColumn("key", sf.col(group.entity)).toArrow()
    return merged_states(group, packed, later, seq, as_of)


def merged_states(
    group: FeatureGroup, packed: pa.Table, later: pa.Table, seq: int, as_of: int
) -> dict[str, State]:
    """The states at `as_of` of all keys of tiles (`key`, `state`) and of events above them."""
    both = pa.chunked_array([*packed["key"].chunks, *later["key"].chunks], pa.string())
    code, names = codes(both)
    tables = [
        of_key(decode(group, state).rows, key)
        for key, state in zip(code, packed["state"].to_pylist(), strict=False)
    ]
    tables.append(raw_rows(group, code[len(packed) :], to_events([group], later)))
    moments = np.full(len(names), as_of, np.int64)
    rows = expire(group, fold(group, concat(tables), moments), moments)
    parts = split(rows, len(names))
    return {name: State(seq, as_of, part) for name, part in zip(names, parts, strict=True)}


def _compare(
    group: FeatureGroup, packed: Mapping[str, bytes], new: Mapping[str, State], as_of: int
) -> tuple[int, int]:
    """(values compared, values that differ) at as-of and as the windows fall after it.

    A state that cannot be decoded differs in every value. One that is ahead of the events table is
    not compared: its batch died before the append and will come again.
    """
    old: dict[str, State] = {}
    for key, state in packed.items():
        with suppress(ValueError):
            old[key] = decode(group, state)
    compared = differ = (len(packed) - len(old)) * len(group.feature_names)
    keys = [key for key in old if old[key].seq <= new[key].seq]
    for q in _moments(group, as_of) if keys else ():
        before = read(group, [old[key] for key in keys], q)
        after = read(group, [new[key] for key in keys], q)
        compared += before.size
        differ += int((before != after).sum())
    return compared, differ


def _moments(group: FeatureGroup, as_of: int) -> Iterator[int]:
    yield as_of + 1
    for hop in HOPS:
        yield as_of + hop
        yield (as_of // hop + 2) * hop
