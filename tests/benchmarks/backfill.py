"""Packed tiles from the events table: the first run, and one over unchanged events."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_contracts.lake import Lake
from spark_jobs.session import end_spark, spark_session
from spark_jobs.tables import load, replace
from spark_jobs.tiles import backfill_tiles
from tests.benchmarks.definitions import benchmark_use_case
from tests.benchmarks.log import EVENTS, log_folder, write_log

CORES = 2
"""Of the Spark session."""


def measure(
    home: Path, options: argparse.Namespace, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Both runs at the smallest of the sizes, in one warm session."""
    size, use_case = min(options.sizes), benchmark_use_case()
    log, lake = log_folder(home, size, hot=False), Lake(home / "backfill", use_case.name)
    events = write_log(log, size, hot=False)["events"]
    spark = spark_session(home / "spark.log", f"local[{CORES}]", "4g")
    try:
        replace(spark.read.parquet(str(log / EVENTS)), lake.events)
        found: list[dict[str, Any]] = []
        for run in ("first", "unchanged"):
            began = time.monotonic()
            backfill_tiles(spark, use_case, lake, use_case.groups)
            seconds = time.monotonic() - began
            tell(f"backfill of {events:,} events, {run} run: {seconds:.1f} s")
            found.append({
                "run": run, "events": events, "tiles": load(spark, lake.tiles).count(),
                "groups": len(use_case.groups), "seconds": round(seconds, 2),
                "events_per_core_s": round(events / seconds / CORES),
            })  # fmt: skip
        return found
    finally:
        end_spark()
