"""States whose ttl has passed leave the online store: no window reaches an event of theirs.

Who finds their keys looks at all events and leaves them in a file; the holder of the writer's lease
removes what is idle of them, between its micro-batches.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import duration
from data_contracts.feature_rules import reach
from data_contracts.lake import Lake
from data_contracts.states import decodable, idle_keys
from data_contracts.use_case import UseCase
from data_contracts.views import View, ViewRegistry
from spark_jobs.events import arrival, load_events
from spark_jobs.feature_store import OnlineStates
from spark_jobs.keys import key_column

CHUNK = 1000
"""Keys whose states are read between two micro-batches."""
_AS_OF, _TO, _SEQ = b"as_of", b"quiet_to", b"quiet_seq"


def quiet_file(lake: Lake, name: str) -> Path:
    """Where the keys lie whose states may leave the view `name`."""
    return lake.quiet / f"{name}.parquet"


def expiring(use_case: UseCase, lake: Lake) -> list[tuple[View, int]]:
    """The live views whose keys leave the store, and after which time (µs): the one that is
    declared now, whatever it was when the view was built, or the reach of the view's own windows
    where that is longer."""
    declared = {group.name: group.ttl for group in use_case.groups}
    found: list[tuple[View, int]] = []
    for view in ViewRegistry(lake).views().values():
        ttl = declared.get(view.group.name, view.group.ttl)
        reaches = [reach(window) for window in view.group.windows]
        if view.live and ttl and None not in reaches:
            found.append((view, max(duration(ttl), *(far for far in reaches if far))))
    return found


def keep_quiet(spark: SparkSession, use_case: UseCase, lake: Lake, seq: int, as_of: int) -> int:
    """Write, for the writer of the store, the keys of which no event arrived for their group's ttl
    before `as_of` (µs), but for those that it has looked at; returns how many.

    `seq` is the last of the events table, `as_of` its latest arrival.
    """
    found = 0
    for view, ttl in expiring(use_case, lake):
        own = load_events(spark, use_case, lake)
        own = own.withColumn("key", key_column(view.group.key_fields)).where("key IS NOT NULL")
        keys = own.groupBy("key").agg(
            sf.unix_micros(sf.max(arrival(own))).alias("last"), sf.max("seq").alias("seq")
        )
        # What was quiet then and stayed had an event ahead of its arrival.
        since = view.quiet_to - use_case.contract.max_future_skew
        unseen = (sf.col("last") > since) | (sf.col("seq") > view.quiet_seq)
        quiet = keys.where((sf.col("last") <= as_of - ttl) & unseen).select("key").toArrow()
        if len(quiet):
            told = {_AS_OF: str(as_of), _TO: str(as_of - ttl), _SEQ: str(seq)}
            path = quiet_file(lake, view.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")
            pq.write_table(quiet.replace_schema_metadata(told), part)
            part.replace(path)
            found += len(quiet)
    return found


def removing(lake: Lake, online: OnlineStates, view: View) -> Iterator[int]:
    """Remove what is idle of a view's quiet keys; yields after every `CHUNK` of them how many were.

    To be driven by the holder of the writer's lease, never within a micro-batch. A state that a
    window reaches again stays, and one that cannot be decoded.
    """
    path, group = quiet_file(lake, view.name), view.group
    table = pq.read_table(path)
    told, keys = table.schema.metadata, table["key"].to_pylist()
    for begin in range(0, len(keys), CHUNK):
        states = decodable(group, online.packed(group, keys[begin : begin + CHUNK]))
        idle = idle_keys(group, states, int(told[_AS_OF]))
        online.remove(group, idle)
        yield len(idle)
    ViewRegistry(lake).change(view, quiet_to=int(told[_TO]), quiet_seq=int(told[_SEQ]))
    path.unlink(missing_ok=True)
