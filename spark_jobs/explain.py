"""A feature's value with what lies behind it: its window, the tiles and the events in it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import format_time
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.states import State, read
from data_contracts.tiles import LEVEL, START, STATE, expire, fold, lower_bounds, raw_rows
from data_contracts.use_case import UseCase
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
    """Per window: its bounds, its tiles, and the ids of the events in it, oldest first."""


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
        mine = rows.tiles[:, LEVEL] == window.level
        inside = mine & (rows.tiles[:, START] >= lo) & (rows.tiles[:, START] < hi)
        tiles = rows.tiles[inside]
        windows[window.label] = {
            "from": format_time(lo),
            "to": format_time(hi),
            "tiles": [
                {"start": format_time(int(tile[START])), "state": tile[STATE:].tolist()}
                for tile in tiles
            ],
            "events": [i for i, t in zip(ids, times, strict=True) if lo <= t < hi],
        }
    named = dict(zip(group.feature_names, map(float, values), strict=True))
    return Explained(key, format_time(q), named, windows)
