"""`headrace score`: a registered version over a table, as the server would score it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dagster_project.command import command
from dagster_project.deployment import Deployment
from data_contracts.stages import CHAMPION


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(command(score))


def score(
    deployment: Deployment,
    rows: Annotated[Path, typer.Option(help="A Delta table, or parquet, of inputs and a time.")],
    out: Annotated[Path, typer.Option(help="The Delta table to write, or of earlier scores.")],
    time: Annotated[str, typer.Option(help="The column of each row's time.")] = "event_time",
    version: Annotated[str, typer.Option(help="A number or an alias.")] = CHAMPION,
) -> dict[str, Any]:
    """Score every row of a table with its features as they were at the row's time."""
    if not rows.exists():
        raise typer.BadParameter(f"--rows {rows}: no such table")

    from dagster_project.stages.scoring import score_rows

    return score_rows(deployment, rows, time, version, out)
