"""The point-in-time training set: mature label rows, their features at *q*, a split by time."""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from data_contracts.built_from import built_from
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.events import load_events
from spark_jobs.keys import key_column
from spark_jobs.labels import label_rows
from spark_jobs.point_in_time import with_group
from spark_jobs.tables import exists, load, replace, version_of
from spark_jobs.visibility import with_known_at


def build_training_set(
    spark: SparkSession, use_case: UseCase, lake: Lake, only_known: bool = False
) -> dict[str, int]:
    """Write `lake.training_set`; returns the row count of each split. With `only_known` a row's
    features are of events that could be read online at its `q`. The commit's user metadata says
    what they were built from: see `BuiltFrom`.

    Raises ValueError when no label has matured yet.
    """
    made_of = {"events": version_of(spark, lake.events)}
    events = load_events(spark, use_case, lake, made_of["events"])
    for dimension in use_case.declared.dimensions:
        if exists(spark, table := lake.dimensions / dimension.name):
            made_of[f"dimension.{dimension.name}"] = version_of(spark, table)
    rows = label_rows(use_case, events).where("mature").drop("mature").persist()
    if only_known:
        events = with_known_at(spark, use_case, lake, events).events
    try:
        filled = with_features(use_case, events, with_split(use_case, rows))
        replace(filled, lake.training_set, about=built_from(use_case, made_of).to_json(), kept=True)
    finally:
        rows.unpersist()
    counts = load(spark, lake.training_set).groupBy("split").count().collect()
    if not counts:
        raise ValueError(
            f"{lake.training_set}: no label has matured: no "
            f"{' or '.join(use_case.label.witnesses)} is {use_case.label.within} after the first "
            f"{use_case.label.on} or later; ingest more of the log"
        )
    return {row["split"]: row["count"] for row in counts}


def with_features(use_case: UseCase, events: DataFrame, rows: DataFrame) -> DataFrame:
    """`rows` (event_id, q, entities…) with every feature of the use case at its `q`."""
    for group in use_case.groups:
        rows = with_group(group, events, rows, key_column(group.key_fields), "q")
    return rows


def with_split(use_case: UseCase, rows: DataFrame) -> DataFrame:
    """`split` by `q`: train, validation, test; `gap` where a label's window, which begins at the
    row's own event time, crosses a border."""
    shares = use_case.declared.split
    moments = rows.select(sf.unix_micros("q").alias("us"))
    first, second = shares.train, shares.train + shares.validation
    borders = moments.select(
        *(
            sf.timestamp_micros(sf.percentile("us", sf.lit(share)).cast("long")).alias(name)
            for name, share in (("_first", first), ("_second", second))
        )
    )
    within = sf.expr(f"INTERVAL {use_case.label.window} MICROSECOND")
    settled = sf.col("event_time") + within
    split = (
        sf.when(settled <= sf.col("_first"), "train")
        .when(sf.col("q") < sf.col("_first"), "gap")
        .when(settled <= sf.col("_second"), "validation")
        .when(sf.col("q") < sf.col("_second"), "gap")
        .otherwise("test")
    )
    return rows.crossJoin(borders).withColumn("split", split).drop("_first", "_second")
