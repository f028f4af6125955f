"""`headrace quarantine list | replay`: what broke the contract, and taking it after a mend."""

from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from dagster_project.cli import (
    DebugOption,
    JsonOption,
    KafkaOption,
    RootOption,
    UseCaseOption,
    run,
)
from dagster_project.deployment import Deployment
from spark_jobs.lake_lease import lake_lease


def register(app: typer.Typer) -> None:
    """Add these commands."""
    quarantine = typer.Typer(help="Records that broke the contract.")
    quarantine.command("list")(list_)
    quarantine.command()(replay)
    app.add_typer(quarantine, name="quarantine")


def list_(
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Every reason, how many records it holds back, and where the first stands."""

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.stages.quarantine import list_quarantine

        return list_quarantine(deployment)

    run(work, Deployment(use_case, root), json, debug, _table)


def replay(
    kafka: KafkaOption = None,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Ingest the quarantined records that the contract takes by now."""

    def work(deployment: Deployment) -> dict[str, Any]:
        with lake_lease(deployment.lake):
            from dagster_project.stages.quarantine import replay_quarantine

            return replay_quarantine(deployment)

    run(work, Deployment(use_case, root, kafka=kafka), json, debug)


def _table(found: dict[str, Any]) -> None:
    table = Table("records", "verdict", "reason", "first")
    for entry in found["quarantine"]:
        table.add_row(f"{entry['records']:,}", entry["verdict"], entry["reason"], entry["first"])
    Console().print(table)
