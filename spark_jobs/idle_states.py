"""States whose ttl has passed leave the online store: no window reaches an event of theirs."""

from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import duration
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.states import idle_keys
from data_contracts.use_case import UseCase
from data_contracts.views import ViewRegistry
from spark_jobs.events import arrival, load_events
from spark_jobs.feature_store import OnlineStates
from spark_jobs.keys import key_column

CHUNK = 1000
"""Keys whose states are read at once."""


def expiring(use_case: UseCase, lake: Lake) -> list[tuple[FeatureGroup, int]]:
    """The live views whose keys leave the store, and after which time (µs): the one that is
    declared now, whatever it was when the view was built."""
    declared = {group.name: group.ttl for group in use_case.groups}
    live = ViewRegistry(lake).live()
    told = [(group, declared.get(group.name, group.ttl)) for group in live]
    return [(group, duration(ttl)) for group, ttl in told if ttl]


def remove_idle_states(
    spark: SparkSession, use_case: UseCase, lake: Lake, online: OnlineStates, as_of: int
) -> int:
    """Remove the row of every key of which no event arrived for its group's ttl before `as_of`
    (µs); returns how many. The caller holds the writer's lease."""
    removed = 0
    for group, ttl in expiring(use_case, lake):
        own = load_events(spark, use_case, lake)
        own = own.withColumn("key", key_column(group.key_fields)).where("key IS NOT NULL")
        last = sf.unix_micros(sf.max(arrival(own)))
        quiet = own.groupBy("key").agg(last.alias("last"))
        quiet = quiet.where(sf.col("last") <= as_of - ttl)
        keys: list[str] = quiet.select("key").toArrow()["key"].to_pylist()
        for begin in range(0, len(keys), CHUNK):
            states = online.read(group, keys[begin : begin + CHUNK])
            idle = idle_keys(group, states, as_of)
            online.remove(group, idle)
            removed += len(idle)
    return removed
