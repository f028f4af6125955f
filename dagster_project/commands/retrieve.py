"""`headrace models retrieve`: the items whose vectors are nearest to a user's."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from dagster_project.command import command
from dagster_project.deployment import Deployment
from dagster_project.terminal import terminal


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(command(retrieve, _show))


def retrieve(
    deployment: Deployment,
    version: Annotated[str, typer.Argument(help="A two_tower version's number.")],
    user: Annotated[str, typer.Option(help="A user of the training set.")],
    top: Annotated[int, typer.Option(min=1, help="How many items.")] = 10,
    vectors: Annotated[
        Path | None, typer.Option(help="Write all vectors here, .npz, for an index of your own.")
    ] = None,
) -> dict[str, Any]:
    """The items of the training set that rank highest for a user, by two towers."""
    from dagster_project.stages.retrieval import retrieve as found

    return found(deployment, version, user, top, vectors)


def _show(found: dict[str, Any]) -> None:
    table = Table("item", "logit", box=None, pad_edge=False)
    for row in found["items"]:
        table.add_row(row["item"], f"{row['logit']:.5f}")
    console = terminal()
    console.print(table)
    console.print(f"of {found['of']:,} items", highlight=False)
