"""Stages training_set and model: from events to a registered version."""

from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.results import write_result
from spark_jobs.training_set import build_training_set
from training.train import train


def build_point_in_time(deployment: Deployment) -> dict[str, Any]:
    """Write the point-in-time training set; row counts a split."""
    reporter().stage("training set")
    counts = build_training_set(deployment.spark, deployment.use_case, deployment.lake)
    write_result(deployment.lake, "training_set", counts)
    return dict(counts)


def train_model(deployment: Deployment, model: str = "dcn_v2") -> dict[str, Any]:
    """Train, evaluate, export and register a version; champion if its gates allow."""
    report = reporter()
    report.stage(f"train {model}")
    version = train(
        deployment.use_case, deployment.lake, model,
        lambda text, share: report.detail(f"{text} {share:.0%}"),
    )  # fmt: skip
    result = {
        "name": version.name,
        "version": version.version,
        "model": version.model,
        "alias": version.alias,
        "promoted": version.promoted,
        "decision": version.decision.as_dict(),
        "metrics": {
            name: {metric: estimate.as_dict() for metric, estimate in each.items()}
            for name, each in version.metrics.items()
        },
        "confidence": deployment.use_case.declared.gates.confidence,
        "bundle": version.bundle_digest,
        "run_id": version.run_id,
        "seconds": round(version.seconds, 1),
    }
    write_result(deployment.lake, "model", result)
    return result
