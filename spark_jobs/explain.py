"""A feature's value with what lies behind it: its window, the tiles and the events in it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.accumulators import Decayed
from data_contracts.clock import SECOND, format_time
from data_contracts.entries import Entries, Part
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.states import State, read, tile_index
from data_contracts.tiles import (
    LEVEL,
    START,
    STATE,
    Rows,
    expire,
    fold,
    lower_bounds,
    raw_rows,
    where,
)
from data_contracts.use_case import UseCase
from data_contracts.windows import WHOLE
from spark_jobs.columns import micros, to_events
from spark_jobs.events import load_events
from spark_jobs.keys import key_column


@dataclass(frozen=True)
class Explained:
    """What every feature of a key's group is at a time, and why."""

    key: str
    q: str
    values: dict[str, float]
    windows: dict[str, dict[str, Any]]
    """Per window: its bounds, its tiles (`tiles_of`), and the ids of its events, oldest first."""


def explain(
    spark: SparkSession, use_case: UseCase, lake: Lake, group: FeatureGroup, key: str, q: int
) -> Explained:
    """The features of `key` (its text) at `q` (µs) from every event before it, with their tiles
    and events."""
    mine = key_column(group.key_fields) == key
    before = sf.col("event_time") < sf.timestamp_micros(sf.lit(q))
    events = load_events(spark, use_case, lake).where(mine & before)
    return explained(group, key, events.orderBy("event_time", "event_id").toArrow(), q)


def explained(group: FeatureGroup, key: str, events: pa.Table, q: int) -> Explained:
    """As `explain`, from the key's own events before `q` in order of time."""
    now = np.array([q], np.int64)
    raw = raw_rows(group, np.zeros(len(events), np.int64), to_events([group], events))
    rows = expire(group, fold(group, raw, now), now)
    values = read(group, [State(0, q, rows)], q)[0]
    times, ids = micros(events["event_time"]), events["event_id"].to_pylist()
    windows: dict[str, dict[str, Any]] = {}
    for window in group.windows:
        lo, hi = int(lower_bounds(group, window, rows, now)[0]), int(window.bounds(q)[1])
        inside = [
            (table[:, LEVEL] == window.level) & (table[:, START] >= lo) & (table[:, START] < hi)
            for table in rows.tables
        ]
        windows[window.label] = {
            "from": format_time(lo),
            "to": format_time(hi),
            "tiles": tiles_of(group, where(rows, inside)),
            "events": [i for i, t in zip(ids, times, strict=True) if lo <= t < hi],
        }
    named = dict(zip(group.feature_names, map(float, values), strict=True))
    return Explained(key, format_time(q), named, windows)


def tiles_of(group: FeatureGroup, rows: Rows) -> list[dict[str, Any]]:
    """The tiles of one key, JSON-ready: where each starts, how many seconds wide it is, and what it
    holds for each aggregate, in order of its parts: accumulators (int) and entries (rows of int).

    Width 0 is an event that waits for the as-of; a session's segment and a lifetime have none.
    """
    found: list[dict[str, Any]] = []
    homes = [tile_index(rows.tiles, table) for table in rows.entries]
    for i, tile in enumerate(rows.tiles):
        level, start = int(tile[LEVEL]), int(tile[START])

        def held(part: Part, i: int = i, tile: np.ndarray = tile) -> Any:
            if isinstance(part, Entries):
                place = group.places[part]
                return rows.entries[place][homes[place] == i, STATE:].tolist()
            base = part.base if isinstance(part, Decayed) else part
            return int(tile[STATE + group.places[base]])

        found.append(
            {
                "start": format_time(start),
                "seconds": level // SECOND if 0 < level < WHOLE else None,
                "holds": {n: [held(p) for p in agg.parts] for n, agg in group.aggregates.items()},
            }
        )
    return found
