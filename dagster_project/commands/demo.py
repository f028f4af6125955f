"""`headrace demo`: the whole loop on a real log, once."""

import os
from typing import Any

import typer
from rich.table import Table

from dagster_project.command import command
from dagster_project.deployment import Deployment
from dagster_project.terminal import terminal


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(command(demo, closing_table, of=("log", "step", "use_case", "root")))


def demo(deployment: Deployment) -> dict[str, Any]:
    """Import, ingest, features, training, serving, replay, outcomes, report: every asset once."""
    os.environ.update(deployment.environment())

    from dagster import DagsterExecutionInterruptedError

    from dagster_project.demo import run_demo

    try:
        return run_demo(deployment)
    except DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None


def closing_table(summary: dict[str, Any]) -> None:
    """The last words of a demo and of a report: what holds, the figures, what to open next."""
    console = terminal()
    table = Table("what", "figure", "note", title=f"Headrace: {summary['title']}")
    for row in summary["rows"]:
        table.add_row(*row)
    console.print(table)
    console.print(f"report: {summary['html']}", soft_wrap=True)
    console.print("next: `make ui` opens Dagster, MLflow and the endpoint", soft_wrap=True)
