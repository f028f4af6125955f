"""`headrace maintain`: compaction, old tiles, idle states and files that nothing names any more."""

import os
from typing import Annotated, Any

import typer

from dagster_project.command import checked_duration, command
from dagster_project.deployment import Deployment

_NICE = 10


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(command(maintain))


def maintain(
    deployment: Deployment,
    vacuum_after: Annotated[
        str | None,
        typer.Option(
            callback=checked_duration,
            help="Age of files to delete; the use case's own if not given.",
        ),
    ] = None,
    force_vacuum: Annotated[
        bool, typer.Option("--force-vacuum", help="Allow under 7d: a running reader may fail.")
    ] = False,
) -> dict[str, Any]:
    """Keep the lake small and fast, also beside its stream, to which it gives way (niceness 10);
    no feature value changes."""
    from dagster_project.stages.maintenance import maintain_lake

    # A stream beside it goes first; the JVM inherits this.
    os.nice(_NICE)
    return maintain_lake(deployment, vacuum_after, force_vacuum)
