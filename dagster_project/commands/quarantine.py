"""`headrace quarantine list | replay`: what broke the contract, and taking it after a mend."""

from typing import Any

import typer
from rich.table import Table

from dagster_project.command import command
from dagster_project.deployment import Deployment
from dagster_project.terminal import terminal
from spark_jobs.lake_lease import lake_lease


def register(app: typer.Typer) -> None:
    """Add these commands."""
    quarantine = typer.Typer(help="Records that broke the contract.")
    quarantine.command("list")(command(list_, _table))
    quarantine.command()(command(replay, of=("kafka", "use_case", "root")))
    app.add_typer(quarantine, name="quarantine")


def list_(deployment: Deployment) -> dict[str, Any]:
    """Every reason, how many records it holds back, and where the first stands."""
    from dagster_project.stages.quarantine import list_quarantine

    return list_quarantine(deployment)


def replay(deployment: Deployment) -> dict[str, Any]:
    """Ingest the quarantined records that the contract takes by now."""
    with lake_lease(deployment.lake):
        from dagster_project.stages.quarantine import replay_quarantine

        return replay_quarantine(deployment)


def _table(found: dict[str, Any]) -> None:
    table = Table("records", "verdict", "reason", "first")
    for entry in found["quarantine"]:
        table.add_row(f"{entry['records']:,}", entry["verdict"], entry["reason"], entry["first"])
    terminal().print(table)
