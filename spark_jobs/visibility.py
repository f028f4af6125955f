"""When an event could first be read online: what `--as-known` builds features from.

The stream notes when the states of a batch were written, and an event counts from then on. Only one
from a landed file or a replay that had arrived before the lake's first note came from elsewhere:
for it the use case assumes a lag. The backlog of a topic or a collector could be read by nobody.
"""

import json
import os
import time
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import duration
from data_contracts.lake import Lake
from data_contracts.landing import COLLECTED
from data_contracts.use_case import UseCase
from spark_jobs.events import arrival

_LOG = "visible_at.jsonl"
KNOWN_AT = "_known_at"


@dataclass(frozen=True)
class Visibility:
    """Events, each with the column `_known_at`, and how many of these times are assumed."""

    events: DataFrame
    recorded: int
    assumed: int
    assumed_lag: str


def note_visible(lake: Lake, seq: int) -> None:
    """Note that all states of batch `seq` are written now; of a batch that comes again the first
    note counts."""
    lake.stream.mkdir(parents=True, exist_ok=True)
    note = json.dumps({"seq": seq, "visible_at": time.time_ns() // 1000})
    with open(lake.stream / _LOG, "a", encoding="utf-8") as log:
        # A note that a kill cut short ends at the next one's line break.
        log.write(f"\n{note}\n" if log.tell() else f"{note}\n")
        log.flush()
        os.fsync(log.fileno())


def visible_at(spark: SparkSession, lake: Lake) -> DataFrame:
    """`seq`, and when its states were first written, `visible_at` (µs); what a kill cut short is no
    note."""
    path, schema = lake.stream / _LOG, "seq long, visible_at long"
    if not path.exists():
        return spark.createDataFrame([], schema)
    lines = spark.read.schema(schema).option("mode", "DROPMALFORMED").json(str(path))
    place = sf.struct("_metadata.file_block_start", sf.monotonically_increasing_id())
    notes = lines.withColumn("place", place).where("visible_at IS NOT NULL")
    return notes.groupBy("seq").agg(sf.min_by("visible_at", "place").alias("visible_at"))


def with_known_at(
    spark: SparkSession, use_case: UseCase, lake: Lake, events: DataFrame
) -> Visibility:
    """When each event was known: the later of its arrival and its batch's note, or for what was
    imported the assumed lag after its arrival. ValueError where the use case declares none then."""
    notes = visible_at(spark, lake).withColumnRenamed("visible_at", "_visible")
    [[began]] = notes.agg(sf.min("_visible")).collect()
    arrived = sf.unix_micros(arrival(events))
    # A topic's origin is `topic/partition`, a file's is its name.
    origin = sf.col("origin")
    taken = origin.contains("/") | origin.startswith(COLLECTED)
    here = taken | (arrived >= sf.lit(began))
    noted = sf.col("_visible").isNotNull() & here
    joined = events.join(notes, "seq", "left").withColumn("_noted", noted)
    counted = joined.agg(sf.count(sf.when(noted, 1)), sf.count("*")).first()
    recorded, every = (int(counted[0]), int(counted[1])) if counted else (0, 0)
    lag = use_case.declared.assumed_lag
    if recorded < every and not lag:
        raise ValueError(
            f"use case {use_case.name}: {every - recorded} of {every} events were imported, and "
            "nobody noted when they could be read: declare assumed_lag, e.g. '5s'"
        )
    assumed = arrived + (duration(lag) if lag else 0)
    known = sf.when(sf.col("_noted"), sf.greatest(arrived, "_visible")).otherwise(assumed)
    told = joined.withColumn(KNOWN_AT, sf.timestamp_micros(known)).drop("_visible", "_noted")
    return Visibility(told, recorded, every - recorded, lag)
