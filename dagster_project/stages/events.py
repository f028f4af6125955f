"""Stage events: what has landed goes through the gate into the events table, exactly once."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyspark.sql import functions as sf

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from dagster_project.stages.features import materialize_online
from data_contracts.clock import SystemClock, duration, format_time
from data_contracts.results import read_result, write_result
from spark_jobs.attributes import without_attribute
from spark_jobs.conservation import conservation
from spark_jobs.epochs import begin_epoch
from spark_jobs.events import arrival, load_events, with_day
from spark_jobs.expectations import ContractValidation, validate_partition
from spark_jobs.lake_lease import lake_lease
from spark_jobs.landing import land
from spark_jobs.stream import Progress, ingest_available, running_stream
from spark_jobs.tables import exists

COUNTS = ("records", "events", "duplicates", "conflicts", "quarantined", "expired")
FOLLOWED_S = 1
"""How often a followed stream is asked for its figures."""


def ingest_files(deployment: Deployment, files: Sequence[Path]) -> dict[str, Any]:
    """Land `files` (canonical JSON lines) and process all that has landed, in Kafka too.

    A file that is missing, empty or binary is refused by name before any is taken. `waiting` is in
    the result when records landed meanwhile, `without_attribute` when dimensions are declared: how
    many events of the lake have a dimension's key but not its attribute. RuntimeError when earlier
    ones were left behind, and before anything is done when there is another writer.
    """
    lake = deployment.lake
    with lake_lease(lake):
        landed = land(lake, files, SystemClock())
        before = conserved(deployment)
        reporter().stage("ingest")
        ingest_available(deployment.spark, deployment.use_case, lake)
        after = conserved(deployment)
        lacking = _without_attribute(deployment)
    if (left := before["records"] + before["waiting"] - after["records"]) > 0:
        raise RuntimeError(f"{lake.landing}: {left} records were there and not read: report this")
    result = {
        "files": len(files),
        "already_landed": len(files) - landed,
        "added": {name: after[name] - before[name] for name in COUNTS},
        **({"waiting": after["waiting"]} if after["waiting"] else {}),
        **({"without_attribute": lacking} if lacking else {}),
        "conservation": after,
    }
    write_result(lake, "events", result)
    return result


def _without_attribute(deployment: Deployment) -> dict[str, int]:
    use_case, lake, spark = deployment.use_case, deployment.lake, deployment.spark
    if not (use_case.declared.dimensions and exists(spark, lake.events)):
        return {}
    return without_attribute(use_case, load_events(spark, use_case, lake))


def begin_anew(deployment: Deployment) -> None:
    """Start a new epoch in place of a lost checkpoint, and rebuild the online store."""
    reporter().stage("new epoch")
    with lake_lease(deployment.lake):
        begin_epoch(deployment.spark, deployment.use_case, deployment.lake)
        if exists(deployment.spark, deployment.lake.events):
            materialize_online(deployment)


def follow_landing(
    deployment: Deployment, files: Sequence[Path], on_progress: Callable[[Progress], None]
) -> None:
    """Land `files`, then process what lands for as long as the stream runs.

    `on_progress` is called whenever its figures have changed.
    """
    with lake_lease(deployment.lake):
        land(deployment.lake, files, SystemClock())
        reporter().stage("start the stream")
        with running_stream(deployment.spark, deployment.use_case, deployment.lake) as stream:
            topic = deployment.lake.kafka
            beside = f" and {topic}" if topic else ""
            reporter().stage(f"follow {deployment.lake.landing}{beside}")
            told: Progress | None = None
            while not stream.ended(FOLLOWED_S):
                if (now := stream.progress()) != told:
                    on_progress(now)
                    told = now


def ingest_days(deployment: Deployment, first: str, last: str) -> dict[str, Any]:
    """Ingest the imported days `first` … `last` (YYYY-MM-DD, both included), but for those that are
    held out: they come through the endpoint."""
    history = read_result(deployment.lake, "raw_log")["history"]
    days = [day for day in history if first <= day <= last]
    return ingest_files(deployment, [deployment.lake.imported / f"{day}.jsonl" for day in days])


def imported_history(deployment: Deployment) -> list[Path]:
    """The imported days that are not held out for replay; ValueError before any import, and where
    there is none."""
    history = (found := read_result(deployment.lake, "raw_log"))["history"]
    if not history:
        days = ", ".join(found["held_out"])
        raise ValueError(
            f"every imported day ({days}) is held out for the replay, for the log is that short: "
            f"name files of {deployment.lake.imported} to ingest"
        )
    return [deployment.lake.imported / f"{day}.jsonl" for day in history]


def conserved(deployment: Deployment) -> dict[str, Any]:
    """Conservation of what was consumed of the landing log, with `holds`."""
    reporter().stage("conservation")
    found = conservation(deployment.spark, deployment.lake)
    result = {**asdict(found), "holds": found.holds}
    write_result(deployment.lake, "conservation", result)
    return result


def fresh(deployment: Deployment, now: int) -> dict[str, Any]:
    """When the newest event `arrived`, within which time of `now` (µs) one has to, and whether that
    `holds`; it always does where the use case declares no `fresh_within`."""
    within = deployment.use_case.declared.fresh_within
    events = load_events(deployment.spark, deployment.use_case, deployment.lake)
    newest = events.agg(sf.unix_micros(sf.max(arrival(events)))).collect()[0][0]
    holds = not within or (newest is not None and now - newest <= duration(within))
    arrived = None if newest is None else format_time(newest)
    return {"arrived": arrived, "within": within or "any", "holds": holds}


def validate_days(deployment: Deployment, first: str, last: str) -> ContractValidation:
    """The contract's Great Expectations suite on the events of the days `first` … `last`."""
    reporter().stage("contract")
    events = load_events(deployment.spark, deployment.use_case, deployment.lake)
    days = events.transform(with_day).where(sf.col("day").between(first, last)).drop("day")
    return validate_partition(deployment.use_case.contract, days)
