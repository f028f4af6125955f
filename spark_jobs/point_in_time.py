"""Features at query times straight from events: one shuffle by key, a numpy kernel a partition."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.types import DoubleType, StringType, StructField, StructType

from data_contracts.contract import Contract
from data_contracts.features import FeatureGroup
from data_contracts.point_in_time import window_states
from spark_jobs.columns import codes, micros, to_events, used_fields

NO_LIMIT = np.iinfo(np.int64).max
"""The `seq` of a query that may see every event."""


def at_query_times(
    contract: Contract, group: FeatureGroup, events: DataFrame, queries: DataFrame
) -> DataFrame:
    """(id, features…) of each query (id string, key string, q timestamp, seq long).

    A query sees the events of its key that the window law gives at `q`, of a seq up to its own.
    """
    filters, values = used_fields([group])
    ties = ["event_id"] if group.entries else []
    facts = events.where(sf.col(group.entity).isNotNull()).select(
        sf.lit(None).cast("string").alias("id"),
        sf.col(group.entity).alias("key"),
        sf.col("event_time").alias("at"),
        "seq", *dict.fromkeys((*filters, *values, *ties)),
    )  # fmt: skip
    asked = queries.select("id", "key", sf.col("q").alias("at"), "seq")
    both = facts.unionByName(asked, allowMissingColumns=True).repartition("key")
    schema = StructType(
        [
            StructField("id", StringType(), False),
            *(StructField(name, DoubleType(), False) for name in group.feature_names),
        ]
    )

    def kernel(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tables = list(batches)
        if tables:
            table = pa.Table.from_batches(tables)
            yield from _features(contract, group, table).to_batches()

    return both.mapInArrow(kernel, schema)


def _features(contract: Contract, group: FeatureGroup, table: pa.Table) -> pa.Table:
    key, _ = codes(table["key"])
    at, seq = micros(table["at"]), table["seq"].to_numpy()
    asked = np.asarray(table["id"].is_valid())
    facts = table.filter(pa.array(~asked))
    values = np.empty((int(asked.sum()), len(group.feature_names)))
    limits = seq[asked]
    for limit in np.unique(limits):
        mine = limits == limit
        seen = seq[~asked] <= limit
        events = to_events([group], facts.filter(pa.array(seen)), "at")
        q = at[asked][mine]
        states = window_states(group, key[~asked][seen], events, key[asked][mine], q)
        values[mine] = group.finalize(states, q)
    columns = [table["id"].filter(pa.array(asked)), *values.T]
    return pa.table([pa.array(c) if isinstance(c, np.ndarray) else c for c in columns],
                    names=["id", *group.feature_names])  # fmt: skip
