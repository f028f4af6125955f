"""Served features against their recomputation from exactly the events behind the state read."""

from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf

from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of, joint_digest
from spark_jobs.events import load_events
from spark_jobs.keys import key_column
from spark_jobs.point_in_time import NO_LIMIT, at_query_times
from spark_jobs.tables import load


@dataclass(frozen=True)
class ServedParity:
    """Feature values as served, compared with `==`."""

    compared: int
    mismatches: int
    """Values that differ from the recomputation with the events up to the logged seq."""
    non_default: int
    """Of the compared, values that are not the declared default."""
    lagging: int
    """Values that differ from what every event known today gives: the stream's lag."""


def served_parity(spark: SparkSession, use_case: UseCase, lake: Lake) -> ServedParity:
    """Compare the features of every prediction made under today's declared ones.

    `mismatches` is 0 unless an engine is wrong.
    """
    declared = joint_digest(digests_of(use_case.groups))
    logged = load(spark, lake.predictions).where(sf.col("definitions") == declared)
    predictions = logged.where(sf.col("features").isNotNull())
    events = load_events(spark, use_case, lake)
    totals = [0, 0, 0, 0]
    for row in predictions.select("view_of").distinct().collect():
        mine = predictions.where(sf.col("view_of") == sf.array(*(sf.lit(i) for i in row[0])))
        offset = 0
        for group in use_case.groups:
            views = row[0][offset : offset + len(group.feature_names)]
            for view in sorted(set(views)):
                read = [j for j, each in enumerate(views) if each == view]
                found = _of_group(use_case, group, view, offset, read, mine, events)
                totals = [a + (b or 0) for a, b in zip(totals, found, strict=True)]
            offset += len(views)
    return ServedParity(*totals)


def _of_group(
    use_case: UseCase,
    group: FeatureGroup,
    view: int,
    offset: int,
    read: list[int],
    predictions: DataFrame,
    events: DataFrame,
) -> list[int]:
    """The counts over those features of a group that were `read` from a view."""
    key = key_column(group.key_fields)
    known = predictions.where(key.isNotNull())
    asked = known.select(
        sf.col("prediction_id").alias("id"), key.alias("key"), "q",
        sf.col("seqs")[view].alias("seq"),
    )  # fmt: skip
    upto = at_query_times(group, events, asked)
    today = at_query_times(group, events, asked.withColumn("seq", sf.lit(int(NO_LIMIT))))
    today = today.select("id", *(sf.col(n).alias(f"now_{n}") for n in group.feature_names))
    served = known.select(sf.col("prediction_id").alias("id"), "features")
    joined = served.join(upto, "id", "left").join(today, "id", "left")
    names = [(j, group.feature_names[j]) for j in read]
    defaults = group.default_values()
    row = joined.agg(
        sf.count("*"),
        _count([~sf.col("features")[offset + j].eqNullSafe(sf.col(n)) for j, n in names]),
        _count([sf.col("features")[offset + j] != sf.lit(float(defaults[j])) for j, _ in names]),
        _count([~sf.col("features")[offset + j].eqNullSafe(sf.col(f"now_{n}")) for j, n in names]),
    ).collect()[0]
    return [row[0] * len(names), row[1], row[2], row[3]]


def _count(conditions: list[Column]) -> Column:
    return sf.sum(reduce(lambda a, b: a + b, [c.cast("int") for c in conditions]))
