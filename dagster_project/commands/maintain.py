"""`headrace maintain`: compaction, old tiles, idle states and files that nothing names any more."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from dagster_project.cli import DebugOption, JsonOption, RootOption, UseCaseOption, run
from dagster_project.deployment import Deployment
from data_contracts.clock import duration

_NICE = 10


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(maintain)


def maintain(
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    vacuum_after: Annotated[
        str | None, typer.Option(help="Age of files to delete; the use case's own if not given.")
    ] = None,
    force_vacuum: Annotated[
        bool, typer.Option("--force-vacuum", help="Allow under 7d: a running reader may fail.")
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Keep the lake small and fast, also beside its stream, to which it gives way (niceness 10);
    no feature value changes."""
    if vacuum_after is not None:
        try:
            duration(vacuum_after)
        except ValueError as error:
            raise typer.BadParameter(f"--vacuum-after: {error}") from None

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.stages.maintenance import maintain_lake

        # A stream beside it goes first; the JVM inherits this.
        os.nice(_NICE)
        return maintain_lake(deployment, vacuum_after, force_vacuum)

    run(work, Deployment(use_case, root), json, debug)
