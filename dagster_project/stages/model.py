"""Stages training_set and model: from events to a registered version."""

from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from dagster_project.stages.events import conserved
from data_contracts.results import write_result
from spark_jobs.dataset import compared_as_known
from spark_jobs.tables import load
from spark_jobs.training_set import build_training_set
from training.evaluate import plain
from training.train import Choices, train


def build_point_in_time(deployment: Deployment, only_known: bool = False) -> dict[str, Any]:
    """Write the point-in-time training set; row counts a split.

    RuntimeError where a record of the lake is not accounted for: nothing is trained from that.
    With `only_known` from events that could be read online at each row's `q`, and how its features
    differ from those of all events before it.
    """
    counts = conserved(deployment)
    if not counts["holds"]:
        raise RuntimeError(f"conservation does not hold, so that nothing is trained: {counts}")
    reporter().stage("training set")
    parts = (deployment.spark, deployment.use_case, deployment.lake)
    found: dict[str, Any] = dict(build_training_set(*parts, only_known))
    if only_known:
        reporter().stage("compare with what had happened")
        rows = load(deployment.spark, deployment.lake.training_set)
        found["as_known"] = compared_as_known(*parts, rows, "q")
    write_result(deployment.lake, "training_set", found)
    return found


def train_model(
    deployment: Deployment, model: str | None = None, choices: Choices | None = None
) -> dict[str, Any]:
    """Train, evaluate, export and register a version; champion if its gates allow. What is not
    told of it is as the use case declares."""
    report = reporter()
    report.stage(f"train {model or deployment.use_case.model.name}")
    version = train(
        deployment.use_case,
        deployment.lake,
        model,
        report.detail,
        choices or Choices(),
        report.note,
    )
    result = {
        "name": version.name,
        "version": version.version,
        "model": version.model,
        "alias": version.alias,
        "promoted": version.promoted,
        "refused": version.refused,
        "continued_from": version.continued_from,
        "notes": version.notes,
        "decision": version.decision.as_dict(),
        "metrics": plain(version.metrics),
        "not_retrieved": version.not_retrieved,
        "slices": plain(version.slices),
        "worst_slice": version.worst_slice,
        "confidence": deployment.use_case.declared.gates.confidence,
        "bundle": version.bundle_digest,
        "run_id": version.run_id,
        "seconds": round(version.seconds, 1),
    }
    write_result(deployment.lake, "model", result)
    return result
