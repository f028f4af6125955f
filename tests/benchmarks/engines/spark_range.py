"""Spark as a user writes it: labels joined with the events of their widest window, then grouped."""

from pathlib import Path

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from spark_jobs.session import spark_session
from tests.benchmarks.definitions import ENTITIES, WINDOWS, Frame
from tests.benchmarks.engines import headrace
from tests.benchmarks.log import EVENTS, LABELS

start = headrace.start


def training_set(log: Path, out: Path) -> None:
    """Write the labels of `log` with their features to the folder `out`."""
    spark = spark_session(out.parent / "spark.log")
    events = spark.read.parquet(str(log / EVENTS))
    labels = spark.read.parquet(str(log / LABELS))
    found = labels
    for name, key in ENTITIES.items():
        found = found.join(_features(name, key, events, labels), "label", "left")
    found.na.fill(0.0).write.parquet(str(out))


def _features(name: str, key: str, events: DataFrame, labels: DataFrame) -> DataFrame:
    t = sf.unix_micros("event_time")
    asked = labels.select("label", sf.col(key).alias("key"), t.alias("q"))
    facts = events.select(sf.col(key).alias("key"), t.alias("t"), "price")
    lows = [_low(window) for window in WINDOWS]
    inside = (sf.col("t") < sf.col("q")) & (sf.col("t") >= lows[-1])
    pairs = asked.join(facts, "key").where(inside)
    columns: list[Column] = []
    for window, low in zip(WINDOWS, lows, strict=True):
        price = sf.when(sf.col("t") >= low, sf.col("price"))
        made = {
            "count": sf.count(price).cast("double"),
            "sum": sf.sum(price),
            "mean": sf.avg(price),
            "min": sf.min(price),
            "max": sf.max(price),
            "last": sf.max_by(price, sf.when(sf.col("t") >= low, sf.col("t"))),
        }
        columns += [column.alias(f"{name}_{k}_{window.name}") for k, column in made.items()]
    return pairs.groupBy("label").agg(*columns)


def _low(window: Frame) -> Column:
    low = sf.col("q") - window.width
    return low - sf.pmod(low, sf.lit(window.hop))
