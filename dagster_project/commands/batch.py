"""`headrace batch load`: the rows of a declared batch table become events."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dagster_project.command import command
from dagster_project.deployment import Deployment
from spark_jobs.lake_lease import lake_lease


def register(app: typer.Typer) -> None:
    """Add this command."""
    batch = typer.Typer(help="Tables that another system fills.")
    # A group of one command would be that command.
    batch.callback()(_group)
    batch.command()(command(load, of=("kafka", "use_case", "root")))
    app.add_typer(batch, name="batch")


def _group() -> None:
    """Tables that another system fills."""


def load(
    deployment: Deployment,
    name: Annotated[str, typer.Argument(help="The table's declared name.")],
    file: Annotated[Path, typer.Option(help="Parquet, JSON lines, a folder of them, or Delta.")],
) -> dict[str, Any]:
    """Ingest a table's rows as events; the same rows again add nothing."""
    with lake_lease(deployment.lake):
        from dagster_project.stages.batch import load_batch

        return load_batch(deployment, name, file)
