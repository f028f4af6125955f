"""`headrace demo`: the whole loop on a real log, once."""

import os
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from dagster_project.cli import (
    DebugOption,
    JsonOption,
    LogOption,
    RootOption,
    StepOption,
    UseCaseOption,
    checked_log,
    checked_step,
    run,
)
from dagster_project.deployment import Deployment


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(demo)


def demo(
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    log: LogOption = None,
    step: StepOption = "30m",
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Import, ingest, features, training, serving, replay, outcomes, report: every asset once."""
    deployment = Deployment(use_case, root, checked_log(log), checked_step(step))
    os.environ.update(deployment.environment())

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster import DagsterExecutionInterruptedError

        from dagster_project.demo import run_demo

        try:
            return run_demo(deployment)
        except DagsterExecutionInterruptedError:
            raise KeyboardInterrupt from None

    run(work, deployment, json, debug, closing_table)


def closing_table(summary: dict[str, Any]) -> None:
    """The last words of a demo and of a report: what holds, the figures, what to open next."""
    console = Console()
    table = Table("what", "figure", "note", title=f"Headrace: {summary['title']}")
    for row in summary["rows"]:
        table.add_row(*row)
    console.print(table)
    console.print(f"report: {summary['html']}", soft_wrap=True)
    console.print("next: `make ui` opens Dagster, MLflow and the endpoint", soft_wrap=True)
