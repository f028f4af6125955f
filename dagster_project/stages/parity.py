"""Stage parity: the engines proven equal on this use case's own log and definitions."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.results import write_result
from spark_jobs.imports import canonical_events
from spark_jobs.proof import Proof, RealParts, prove, read_log


@dataclass(frozen=True)
class Plan:
    """How much is to be proven."""

    schedules: int = 200
    seed: int = 0
    spark_schedules: int = 20
    """Of the schedules, how many run through Spark, Delta and Feast."""
    killed: int = 5
    """Of these, how many kill a writer by signal."""


def prove_parity(deployment: Deployment, plan: Plan) -> dict[str, Any]:
    """Run the proof and keep its certificate; returns it."""
    report, use_case = reporter(), deployment.use_case
    report.stage(f"read {deployment.raw_log.name}")
    rows = canonical_events(use_case, deployment.raw_log)
    log = read_log(use_case, [event for events in rows for _, event in events])
    report.stage(f"{plan.schedules} schedules over {len(log.events):,} events")

    def tell(done: int) -> None:
        report.detail(f"{done} of {plan.schedules}")

    with TemporaryDirectory(prefix="headrace-parity-") as folder:
        real = None
        if plan.spark_schedules:
            parts = (plan.spark_schedules, plan.killed)
            real = RealParts(deployment.spark, Path(folder), *parts)
        proof: Proof = prove(use_case, log, plan.schedules, plan.seed, real, tell)
    certificate = proof.certificate()
    write_result(deployment.lake, "parity_certificate", certificate)
    return {**certificate, "holds": proof.holds}
