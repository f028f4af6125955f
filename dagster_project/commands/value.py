"""`headrace models value`: what drawn slates tell of a version before it is served."""

from typing import Annotated, Any

import typer
from rich.table import Table

from dagster_project.command import command
from dagster_project.deployment import Deployment
from dagster_project.terminal import terminal


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(command(value, present_value))


def value(
    deployment: Deployment,
    version: Annotated[str, typer.Argument(help="A version's number.")],
) -> dict[str, Any]:
    """Positives of a slate that a version would have drawn, and that the logged order had."""
    from dagster_project.stages.exploration import value_version

    return value_version(deployment, version)


def present_value(found: dict[str, Any]) -> None:
    """Print what `value_version` gave."""
    table = Table("positives of a slate", "value", "interval", box=None, pad_edge=False)
    rows = {
        "the logged order": "logged",
        f"version {found['version']}, SNIPS": "snips",
        f"version {found['version']}, IPS": "ips",
        "above the logged order": "gain",
    }
    for name, figure in rows.items():
        table.add_row(name, *_figure(found[figure]))
    console = terminal()
    console.print(table)
    told = f"effective slates {found['effective_sample_size']:,.0f} of {found['snips']['n']:,}"
    console.print(f"{found['verdict']}: {found['doubt'] or told}", highlight=False)
    for why, count in found["left_out"].items():
        console.print(f"left out: {count:,} {why}", highlight=False)


def _figure(figure: dict[str, Any]) -> tuple[str, str]:
    if figure["value"] is None:
        return "", ""
    return f"{figure['value']:.4f}", "[{low:.4f}, {high:.4f}]".format(**figure)
