"""`headrace dimension load`: attributes of entities, from a time on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dagster_project.cli import DebugOption, JsonOption, RootOption, UseCaseOption, run
from dagster_project.deployment import Deployment


def register(app: typer.Typer) -> None:
    """Add this command."""
    dimension = typer.Typer(help="Attributes of entities, from a time on.")
    # A group of one command would be that command.
    dimension.callback()(_group)
    dimension.command()(load)
    app.add_typer(dimension, name="dimension")


def _group() -> None:
    """Attributes of entities, from a time on."""


def load(
    name: Annotated[str, typer.Argument(help="The dimension's declared name.")],
    file: Annotated[Path, typer.Option(help="Parquet, JSON lines, or a folder of them.")],
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Add rows to a dimension; events and requests from now on take its attributes."""

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.stages.dimension import load_rows

        return load_rows(deployment, name, file)

    run(work, Deployment(use_case, root), json, debug)
