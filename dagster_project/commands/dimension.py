"""`headrace dimension load`: attributes of entities, from a time on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dagster_project.command import command
from dagster_project.deployment import Deployment


def register(app: typer.Typer) -> None:
    """Add this command."""
    dimension = typer.Typer(help="Attributes of entities, from a time on.")
    # A group of one command would be that command.
    dimension.callback()(_group)
    dimension.command()(command(load))
    app.add_typer(dimension, name="dimension")


def _group() -> None:
    """Attributes of entities, from a time on."""


def load(
    deployment: Deployment,
    name: Annotated[str, typer.Argument(help="The dimension's declared name.")],
    file: Annotated[Path, typer.Option(help="Parquet, JSON lines, or a folder of them.")],
) -> dict[str, Any]:
    """Add rows to a dimension; events and requests from now on take its attributes."""
    from dagster_project.stages.dimension import load_rows

    return load_rows(deployment, name, file)
