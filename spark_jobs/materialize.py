"""The online store rebuilt from Delta: closed days from tiles, the rest from events."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import to_arrow_schema

from data_contracts.clock import day_of
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.online import view_name
from data_contracts.states import State, decode, of_key, split
from data_contracts.tiles import concat, expire, fold, raw_rows
from data_contracts.use_case import UseCase
from data_contracts.views import View, ViewRegistry, kept_up
from spark_jobs.checkpoint import planned_seq
from spark_jobs.columns import codes, to_events
from spark_jobs.events import arrival, load_events, with_day
from spark_jobs.feature_store import OnlineStates
from spark_jobs.keys import key_column
from spark_jobs.lake_lease import RowsHeld, lake_lease
from spark_jobs.lease import LeaseHeld
from spark_jobs.online_store import check_place, move
from spark_jobs.rebuilt_states import keep_rebuilt, rebuilt_file
from spark_jobs.schemas import TILES
from spark_jobs.tables import exists, load, newest_seq
from spark_jobs.tiles import own_rows
from spark_jobs.view_keeper import tend_until_done


@dataclass(frozen=True)
class Materialized:
    """What a rebuild wrote, and how it compares with what it replaced."""

    keys: int
    """States that were written: a key has one in each view that holds it."""
    as_of: int
    """µs; the time up to which the states hold tiles."""
    compared: int
    """Feature values of keys that the stream had written, read from both states."""
    mismatches: int
    """Of those, values that differ: 0 unless stream or tiles are wrong, or states went or came."""
    lost: int
    """Keys whose states were gone from the store, of which each value differs."""
    superfluous: int
    """Keys whose states no event gives, of which each value differs too: they were removed."""


def materialize(
    spark: SparkSession, use_case: UseCase, lake: Lake, patience_s: float = 600
) -> Materialized:
    """Rebuild the states of every live view and of what the declared groups lack, and have them
    loaded: by the stream where one runs, else here, under the writer's lease. A view that is
    retired meanwhile is left out.

    The states lie in the store that is named now from then on; one that is ahead of the lake is
    emptied first. RuntimeError when the process that holds the lease writes to another one, or has
    loaded nothing of them for `patience_s`.
    """
    registry = ViewRegistry(lake)
    before = registry.views()
    for group in kept_up(use_case, lake):
        _rebuilt(spark, use_case, lake, group, before.get(view_name(group)))
    _take_store(spark, use_case, lake)

    def waiting() -> bool:
        return any(view.live and view.rebuilt is not None for view in registry.views().values())

    tend_until_done(spark, use_case, lake, waiting, patience_s, whole=True)
    loaded = [view for view in registry.views().values() if view.live]
    return Materialized(
        keys=sum(view.keys for view in loaded),
        as_of=max((view.as_of for view in loaded), default=0),
        compared=sum(view.compared for view in loaded),
        mismatches=sum(view.mismatches for view in loaded),
        lost=sum(view.lost for view in loaded),
        superfluous=sum(view.superfluous for view in loaded),
    )


def _take_store(spark: SparkSession, use_case: UseCase, lake: Lake) -> None:
    """The store that is named now is the lake's from here on; one that holds batches which the lake
    never had is emptied: whoever reads it reads defaults until it is filled."""
    try:
        with lake_lease(lake):
            move(lake)
            online = OnlineStates(use_case, lake)
            known = max(planned_seq(lake), newest_seq(spark, lake.events))
            if online.require(0) > known:
                online.empty([view for view in ViewRegistry(lake).views().values() if view.live])
    except RowsHeld:
        raise
    except LeaseHeld:
        check_place(lake)


def _rebuilt(
    spark: SparkSession, use_case: UseCase, lake: Lake, group: FeatureGroup, before: View | None
) -> None:
    """Rebuild the states of one definition and leave them to the writer."""
    events = load_events(spark, use_case, lake)
    seq = newest_seq(spark, lake.events)
    latest: Any = (
        events.where(sf.col("seq") <= seq).agg(sf.unix_micros(sf.max(arrival(events)))).first()
    )
    states = rebuild(spark, use_case, lake, group, seq, int(latest[0] or 0))
    name = view_name(group)
    keep_rebuilt(lake, group, states, name, seq)
    if not ViewRegistry(lake).offer(group, seq, before):
        rebuilt_file(lake, name).unlink(missing_ok=True)


def rebuild(
    spark: SparkSession, use_case: UseCase, lake: Lake, group: FeatureGroup, seq: int, as_of: int
) -> dict[str, State]:
    """The state of every key at `as_of`, from the tiles of the days before it, where there are
    any, and the events above them."""
    horizon = day_of(min(window.bounds(as_of)[0] for window in group.windows))
    packed, later = packed_and_later(spark, use_case, lake, group, seq, horizon, day_of(as_of))
    return merged_states(group, packed, later.toArrow(), seq, as_of)


def packed_and_later(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    group: FeatureGroup,
    seq: int,
    first: str,
    today: str,
    of: str | None = None,
) -> tuple[pa.Table, DataFrame]:
    """What is packed of the days `first` … before `today` (rows of `TILES`; the base counts as all
    days before its own), and the events up to `seq` from `first` on that it does not hold; of every
    key, or of that whose text is `of`."""
    base = load_packed(spark, lake.tile_bases, group, of=of)
    folded = base["day"][0].as_py() if len(base) else ""
    if (base_seq := base["seq"][0].as_py() if len(base) else 0) > seq:
        raise _ahead(spark, lake, group, base_seq, seq)
    # Tiles that a backfill wrote since hold events above `seq`: their days come from the events.
    span = f"day >= '{max(first, folded)}' AND day < '{today}' AND seq <= {seq}"
    # Read once: the days that count as built are those of the very rows that are merged.
    tiles = load_packed(spark, lake.tiles, group, span, of)
    days = tiles.group_by("day").aggregate([("seq", "max")]).rename_columns(["day", "_built_seq"])
    built = spark.createDataFrame(days, "day string, _built_seq long")
    day, later_seq = sf.col("day"), sf.col("seq")
    events = load_events(spark, use_case, lake).where(later_seq <= seq)
    events = events.withColumn("key", key_column(group.key_fields)).where("key IS NOT NULL")
    if of is not None:
        events = events.where(sf.col("key") == of)
    events = events.transform(with_day).where(day >= first).join(sf.broadcast(built), "day", "left")
    held = sf.when(day < folded, sf.lit(base_seq)).otherwise(sf.coalesce("_built_seq", sf.lit(0)))
    return pa.concat_tables([base, tiles]), events.where(later_seq > held)


def _ahead(
    spark: SparkSession, lake: Lake, group: FeatureGroup, base_seq: int, seq: int
) -> Exception:
    """Why a base that holds more than the events up to `seq` is of no use."""
    held = f"{lake.tile_bases}: group {group.name} holds seq {base_seq}"
    if base_seq <= (newest := newest_seq(spark, lake.events)):
        return RuntimeError(f"{held} since tiles were folded amid this read up to {seq}: run again")
    return ValueError(
        f"{held}, events end at {newest}: the events table was rolled back; restore it or delete "
        "the bases and the tiles"
    )


def load_packed(
    spark: SparkSession, path: Path, group: FeatureGroup, span: str = "true", of: str | None = None
) -> pa.Table:
    """The rows of `TILES` at `path` that are of the group as declared now, of every key or of `of`;
    none without a table."""
    every = load(spark, path) if exists(spark, path) else spark.createDataFrame([], TILES)
    own = every.where(own_rows(group)).where(span)
    if of is not None:
        own = own.where(sf.col("key") == of)
    held = own.select(TILES.names).toArrow()
    return held.cast(to_arrow_schema(TILES))


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
