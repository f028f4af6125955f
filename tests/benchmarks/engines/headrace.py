"""Headrace: the point-in-time join of `headrace dataset build`, on parquet files."""

from pathlib import Path

from spark_jobs.dataset import with_features_at
from spark_jobs.session import spark_session
from tests.benchmarks.definitions import benchmark_use_case
from tests.benchmarks.log import EVENTS, LABELS


def start(scratch: Path) -> None:
    """Bring up what a long-lived process has running already: the JVM."""
    spark_session(scratch / "spark.log", memory="4g")


def training_set(log: Path, out: Path) -> None:
    """Write the labels of `log` with their features to the folder `out`."""
    spark = spark_session(out.parent / "spark.log")
    events = spark.read.parquet(str(log / EVENTS))
    labels = spark.read.parquet(str(log / LABELS))
    with_features_at(benchmark_use_case(), events, labels).write.parquet(str(out))
