"""Features at query times straight from events: a shuffle by key, a numpy kernel a bucket of keys.

A row travels to its key's events and comes back with its features, so that nothing is joined.
"""

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.types import DoubleType, StructField, StructType

from data_contracts.as_known import as_known
from data_contracts.features import FeatureGroup
from data_contracts.point_in_time import window_states
from spark_jobs.columns import codes, micros, queried_events, used_fields
from spark_jobs.keys import key_column
from spark_jobs.visibility import KNOWN_AT

NO_LIMIT = np.iinfo(np.int64).max
"""The `seq` of a query that may see every event."""

BUCKETS_A_PARTITION = 16
"""Keys are worked on a bucket at a time, so that a task holds a part of its rows only."""

INTERNAL = _BUCKET, _KEY = "_bucket", "_key"
"""Columns that rows have on their way."""


def at_query_times(group: FeatureGroup, events: DataFrame, queries: DataFrame) -> DataFrame:
    """(id, features…) of each query (id string, key string, q timestamp, seq long).

    A query sees the events of its key that the window law gives at `q`, of a seq up to its own.
    """
    found = with_group(group, events, queries, sf.col("key"), "q", "seq")
    return found.select("id", *group.feature_names)


def with_group(
    group: FeatureGroup,
    events: DataFrame,
    rows: DataFrame,
    key: Column,
    q: str,
    seq: str | None = None,
) -> DataFrame:
    """`rows` with the group's features of the text `key` at the timestamp `q` beside them.

    A row sees the events of its key that the window law gives at `q`, with `seq` only those up to
    its own, and where events have a column `_known_at` only those known by `q`; a null key or time
    gets the declared defaults.
    """
    filters, values = used_fields([group])
    ties = ["event_id"] if group.entries else []
    entity, moment = key_column(group.key_fields), sf.col(q)
    more = [*ties, *(["seq"] if seq else []), *({KNOWN_AT} & {*events.columns})]
    used: list[str] = [*dict.fromkeys([*filters, *values, *more])]
    # Each under an alias: `rows` may be made of the same events.
    facts = events.where(entity.isNotNull()).select(
        _bucket(events, entity), entity.alias("key"), sf.col("event_time").alias("at"),
        *(sf.col(name).alias(name) for name in used),
    )  # fmt: skip
    # Rows without a key are spread by their time; a salt must not be random.
    spread = sf.coalesce(key, moment.cast("string"))
    asked = rows.select(_bucket(events, spread), key.alias(_KEY), "*")
    added = [StructField(name, DoubleType(), False) for name in group.feature_names]

    def kernel(facts: pa.Table, asked: pa.Table) -> pa.Table:
        limits = None if seq is None else asked[seq].to_numpy()
        features = _features(group, facts, asked[_KEY], asked[q], limits)
        table = asked.drop_columns([_BUCKET, _KEY])
        for name, column in zip(group.feature_names, features.T, strict=True):
            table = table.append_column(name, pa.array(column))
        return table

    return (
        facts.groupBy(_BUCKET)
        .cogroup(asked.groupBy(_BUCKET))
        .applyInArrow(kernel, StructType([*rows.schema, *added]))
    )


def _bucket(events: DataFrame, key: Column) -> Column:
    partitions = int(str(events.sparkSession.conf.get("spark.sql.shuffle.partitions")))
    return sf.pmod(sf.hash(key), sf.lit(partitions * BUCKETS_A_PARTITION)).alias(_BUCKET)


def _features(
    group: FeatureGroup,
    facts: pa.Table,
    keys: pa.ChunkedArray,
    times: pa.ChunkedArray,
    limits: np.ndarray | None,
) -> np.ndarray:
    """float64[queries, features]: `facts` are all events of all those keys."""
    both, names = codes(pa.chunked_array([*facts["key"].chunks, *keys.fill_null("").chunks]))
    key, asked = both[: len(facts)], both[len(facts) :]
    known = np.asarray(keys.is_valid()) & np.asarray(times.is_valid())
    asked = np.where(known, asked, len(names))
    q = micros(times)
    events = queried_events(group, key, facts, "at")
    if KNOWN_AT in facts.column_names:
        return as_known(group, key, events, micros(facts[KNOWN_AT]), asked, q)
    if limits is None:
        return group.finalize(window_states(group, key, events, asked, q), q)
    values = np.empty((len(q), len(group.feature_names)))
    seq = facts["seq"].to_numpy()
    for limit in np.unique(limits):
        mine, seen = limits == limit, seq <= limit
        states = window_states(group, key[seen], events.take(seen), asked[mine], q[mine])
        values[mine] = group.finalize(states, q[mine])
    return values
