"""Label rows: the query time of each, whether it turned positive, and whether that is settled."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as sf

from data_contracts.clock import parse_time
from data_contracts.use_case import UseCase


def label_rows(use_case: UseCase, events: DataFrame) -> DataFrame:
    """One row per label row of `events`: its event fields and

    `request` string, `q` timestamp (the earliest event time of its request, over all its events of
    the label's type, also those that `first_per` leaves out), `label` int 0/1 and `mature` boolean:
    whether the positives are complete to the end of its attribution window, as `Label.witnesses`
    show it: while they stand still, nothing matures.
    """
    label = use_case.label
    rows = events.where(sf.col("event_type") == label.on)
    request = use_case.declared.request_field
    named = sf.coalesce(sf.col(request), sf.col("event_id")) if request else sf.col("event_id")
    page = Window.partitionBy("request")
    rows = rows.withColumn("request", named).withColumn("q", sf.min("event_time").over(page))
    if label.first_per:
        order = Window.partitionBy(*label.first_per).orderBy("event_time", "event_id")
        rows = rows.withColumn("_n", sf.row_number().over(order)).where("_n = 1").drop("_n")
    outcomes = events.where(sf.col("event_type").isin(*label.witnesses))
    complete_to = outcomes.agg(sf.max("event_time").alias("_complete_to"))
    within = sf.expr(f"INTERVAL {label.window} MICROSECOND")
    settled = sf.col("event_time") + within <= sf.col("_complete_to")
    return (
        rows.join(positives(use_case, events), "event_id", "left")
        .withColumn("label", sf.coalesce("label", sf.lit(0)))
        .crossJoin(complete_to)
        .withColumn("mature", sf.coalesce(settled, sf.lit(False)))
        .drop("_complete_to")
    )


def settled_rows(use_case: UseCase, events: DataFrame, closed: str = "") -> DataFrame:
    """The label rows that are mature, or of before `closed` (RFC 3339): to one of those no positive
    comes any more, whoever says so."""
    settled = sf.col("mature")
    if closed:
        settled |= sf.col("event_time") < sf.timestamp_micros(sf.lit(parse_time(closed)))
    return label_rows(use_case, events).where(settled)


def positives(use_case: UseCase, events: DataFrame) -> DataFrame:
    """(event_id, label = 1) of the rows that a matching later event makes positive."""
    label = use_case.label
    rows = events.where(sf.col("event_type") == label.on)
    own = ["event_id", "event_time", *label.match]
    rows = rows.select(*[sf.col(name).alias(f"row_{name}") for name in dict.fromkeys(own)])
    hits = events.where(sf.col("event_type").isin(*label.positive))
    match = [sf.col(f"row_{row}") == sf.col(hit) for row, hit in label.match.items()]
    within = sf.expr(f"INTERVAL {label.window} MICROSECOND")
    in_time = sf.col("event_time").between(
        sf.col("row_event_time"), sf.col("row_event_time") + within
    )
    met = hits.select("event_time", *dict.fromkeys(label.match.values()))
    joined = rows.join(met, [*match, in_time], "inner")
    return joined.select(
        sf.col("row_event_id").alias("event_id"), sf.lit(1).alias("label")
    ).distinct()
