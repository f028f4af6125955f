"""Stage maintenance: the lake kept small and fast; no value changes."""

from dataclasses import asdict
from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.results import write_result
from spark_jobs.maintenance import maintain


def maintain_lake(
    deployment: Deployment, vacuum_after: str | None = None, forced: bool = False
) -> dict[str, Any]:
    """Compact, fold, expire and vacuum; the use case says after which time unless it is given."""
    reporter().stage("compact, fold, expire, vacuum")
    use_case, lake = deployment.use_case, deployment.lake
    after = vacuum_after or use_case.declared.vacuum_after
    found = maintain(deployment.spark, use_case, lake, after, forced)
    result = {**asdict(found), "vacuum_after": after}
    write_result(lake, "maintenance", result)
    return result
