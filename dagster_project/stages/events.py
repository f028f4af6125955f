"""Stage events: what has landed goes through the gate into the events table, exactly once."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyspark.sql import functions as sf

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.clock import SystemClock
from data_contracts.results import read_result, write_result
from spark_jobs.conservation import conservation
from spark_jobs.expectations import ContractValidation, validate_partition
from spark_jobs.landing import land
from spark_jobs.stream import ingest_available
from spark_jobs.tables import load


def ingest_files(deployment: Deployment, files: Sequence[Path]) -> dict[str, Any]:
    """Land `files` (canonical JSON lines) and process all that has landed.

    A file that is missing, empty or binary is refused by name before any is taken.
    """
    before = conserved(deployment)
    landed = land(deployment.lake, files, SystemClock())
    reporter().stage("ingest")
    ingest_available(deployment.spark, deployment.use_case, deployment.lake)
    after = conserved(deployment)
    added = {key: after[key] - before[key] for key in before if isinstance(before[key], int)}
    result = {"files": len(files), "already_landed": len(files) - landed, "added": added}
    write_result(deployment.lake, "events", {**result, "conservation": after})
    return {**result, "conservation": after}


def ingest_days(deployment: Deployment, first: str, last: str) -> dict[str, Any]:
    """Ingest the imported days `first` … `last` (YYYY-MM-DD, both included)."""
    raw_log = read_result(deployment.lake, "raw_log")
    days = [day for day in (*raw_log["history"], *raw_log["held_out"]) if first <= day <= last]
    return ingest_files(deployment, [deployment.lake.imported / f"{day}.jsonl" for day in days])


def imported_history(deployment: Deployment) -> list[Path]:
    """The imported days that are not held out for replay; ValueError before any import."""
    history = read_result(deployment.lake, "raw_log")["history"]
    return [deployment.lake.imported / f"{day}.jsonl" for day in history]


def conserved(deployment: Deployment) -> dict[str, Any]:
    """Conservation of the landing log, with `holds`."""
    reporter().stage("conservation")
    found = conservation(deployment.spark, deployment.lake)
    result = {**asdict(found), "holds": found.holds}
    write_result(deployment.lake, "conservation", result)
    return result


def validate_days(deployment: Deployment, first: str, last: str) -> ContractValidation:
    """The contract's Great Expectations suite on the events of the days `first` … `last`."""
    reporter().stage("contract")
    day = sf.date_format("event_time", "yyyy-MM-dd")
    events = load(deployment.spark, deployment.lake.events).where(day.between(first, last))
    return validate_partition(deployment.use_case.contract, events)
