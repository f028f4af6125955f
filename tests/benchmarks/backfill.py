"""Packed tiles from the events table: a first run, and one over unchanged events."""

import argparse
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from data_contracts.lake import Lake
from spark_jobs.session import end_spark, spark_session
from spark_jobs.tables import replace
from spark_jobs.tiles import backfill_tiles
from tests.benchmarks.definitions import benchmark_use_case
from tests.benchmarks.log import EVENTS, log_folder, write_log

CORES = 2
"""Of the Spark session."""


def measure(
    home: Path, options: argparse.Namespace, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Both kinds of run in turn at the smallest of the sizes, in one session, the first cold."""
    size, use_case = min(options.sizes), benchmark_use_case()
    log, lake = log_folder(home, size, hot=False), Lake(home / "backfill", use_case.name)
    events = write_log(log, size, hot=False)["events"]
    began = time.monotonic()
    spark = spark_session(home / "spark.log", f"local[{CORES}]", "4g")
    start_s = round(time.monotonic() - began, 2)
    runs: dict[str, list[tuple[float, float, int]]] = {"first": [], "unchanged": []}
    try:
        replace(spark.read.parquet(str(log / EVENTS)), lake.events)
        tiles = 0
        for turn in range(1 + options.runs):
            shutil.rmtree(lake.tiles, ignore_errors=True)
            for run, taken in runs.items():
                began, cpu = time.monotonic(), _cpu_seconds()
                done = backfill_tiles(spark, use_case, lake, use_case.groups)
                taken.append((time.monotonic() - began, _cpu_seconds() - cpu, done.rebuilt_days))
                tiles = done.tiles
                seconds, spent, days = taken[-1]
                tell(f"backfill of {events:,} events, {run} run {turn}: {seconds:.1f} s, "
                     f"{spent:.1f} CPU s, {days} days built")  # fmt: skip
        peak = _peak_mib()
    finally:
        end_spark()
    found: list[dict[str, Any]] = []
    for run, taken in runs.items():
        seconds, spent, days = (list(column) for column in zip(*taken[1:], strict=True))
        found.append({
            "run": run, "events": events, "tiles": tiles, "groups": len(use_case.groups),
            "rebuilt_days": max(days), "jvm_start_s": start_s, "cold_s": round(taken[0][0], 2),
            "seconds": round(median(seconds), 2), "spread_s": [round(min(seconds), 2),
            round(max(seconds), 2)], "cpu_s": round(median(spent), 2), "peak_mib": peak,
            "events_per_core_s": round(events / median(spent)) if max(days) else None,
        })  # fmt: skip
    return found


def _tree() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _cpu_seconds() -> float:
    """Of this process, the JVM and Python's workers."""
    total = 0.0
    for process in _tree():
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def _peak_mib() -> int:
    """The sum of each living process's largest resident memory."""
    total = 0
    for process in _tree():
        with suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            total += int(status.partition("VmHWM:")[2].split()[0])
    return round(total / 1024)
