"""Stage batch: the rows of a batch table become events, by the path of every other event."""

from pathlib import Path
from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from dagster_project.stages.events import ingest_files
from spark_jobs.batch import batch_lines


def load_batch(deployment: Deployment, name: str, source: Path) -> dict[str, Any]:
    """Land and ingest the rows of the batch table `name` in `source`; loaded again, they add
    nothing. Raises ValueError for a table that is not declared."""
    tables = {table.name: table for table in deployment.use_case.declared.batch_tables}
    if name not in tables:
        known = ", ".join(sorted(tables)) or "none"
        raise ValueError(f"batch table {name!r} is not declared; declared are: {known}")
    reporter().stage(f"read {source.name}")
    files = batch_lines(deployment.spark, deployment.lake, tables[name], source)
    return ingest_files(deployment, files)
