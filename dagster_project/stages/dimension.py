"""Stage dimension: what is known of entities, for the events that come from then on."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.dimension import DIMENSIONS
from spark_jobs.dimensions import load_dimension


def load_rows(deployment: Deployment, name: str, source: Path) -> dict[str, Any]:
    """Append the new rows of `source` to the dimension `name`; loaded again, they add nothing.

    Raises ValueError for one that is not declared, and as `load_dimension` does.
    """
    use_case, lake = deployment.use_case, deployment.lake
    dimensions = {dimension.name: dimension for dimension in use_case.declared.dimensions}
    if name not in dimensions:
        known = ", ".join(sorted(dimensions)) or "none"
        raise ValueError(f"dimension {name!r} is not declared; declared are: {known}")
    reporter().stage(f"load {source.name}")
    return {"dimension": name, **asdict(load_dimension(use_case, lake, dimensions[name], source))}


def load_beside(deployment: Deployment, log: Path) -> None:
    """Load the files of the declared dimensions that lie beside a raw log."""
    for dimension in deployment.use_case.declared.dimensions:
        source = log / DIMENSIONS / f"{dimension.name}.jsonl"
        if source.is_file():
            load_rows(deployment, dimension.name, source)
