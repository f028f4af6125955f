"""Stage variants: faster and smaller forms of a registered version."""

from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from dagster_project.stages.models import find_version
from data_contracts.results import write_result
from training.variants import Trials, measure_variants


def variants_of(deployment: Deployment, number: str, trials: Trials) -> dict[str, Any]:
    """Make, measure and judge the variants of a version; those offered are kept beside it."""
    _, version = find_version(deployment, number)
    report = reporter()
    report.stage(f"variants of version {number}")
    result = measure_variants(
        deployment.use_case, deployment.lake, version, trials,
        report.detail,
    )  # fmt: skip
    write_result(deployment.lake, "variants", result)
    return result
