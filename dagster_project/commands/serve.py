"""`headrace serve | replay`: the endpoint, and a held-out log sent through it."""

import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dagster_project.cli import (
    FAILED,
    DebugOption,
    JsonOption,
    RootOption,
    StepOption,
    UseCaseOption,
    checked_step,
    run,
)
from dagster_project.deployment import Deployment

KEY = "HEADRACE_KEY"
ROLES = ("predict", "events", "operate")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(serve)
    app.command()(replay)


def serve(
    port: Annotated[int, typer.Option(help="HTTP port on loopback; 0 takes a free one.")] = 0,
    clock: Annotated[
        str, typer.Option(help="system, or replay: time stands where requests do.")
    ] = "system",
    replicas: Annotated[int, typer.Option(min=1)] = 1,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    debug: DebugOption = False,
) -> None:
    """Serve the champion until interrupted; the first start makes an API key and shows it once."""

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.progress import reporter
        from serving.auth import create_key
        from serving.running import running
        from serving.settings import Settings

        fresh = not deployment.lake.keys.exists()
        key = create_key(deployment.lake.keys, ROLES, "first") if fresh else None
        reporter().stage(f"serve {deployment.use_case.name}")
        settings = Settings.model_validate(
            {"root": deployment.lake.root, "use_case": str(deployment.use_case.folder),
             "port": port, "clock": clock, "replicas": replicas}
        )  # fmt: skip
        with running(settings) as server:
            told = Console()
            told.print(
                f"serving {server.url}/{deployment.use_case.name}/v1/predict", soft_wrap=True
            )
            told.print(f"docs    {server.url}/docs", soft_wrap=True)
            if key:
                told.print(f"key     {key}  (shown once; in {deployment.lake.keys} only its hash)",
                           soft_wrap=True)  # fmt: skip
            _until_interrupted(server.process.wait)
        return {"stopped": server.url}

    run(work, Deployment(use_case, root), False, debug)


def replay(
    url: Annotated[
        str | None, typer.Option(help="A server with --clock replay; else one is started.")
    ] = None,
    step: StepOption = "30m",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Never wait for the stream.")] = False,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Send the held-out days through the endpoint in event-time order, the stream in lock-step."""
    key = os.environ.get(KEY)
    if url and not key:
        raise typer.BadParameter(f"--url needs an API key of role operate in ${KEY}")

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.stages.predictions import replay_against, replay_held_out

        if url and key:
            return replay_against(deployment, url, key)
        return replay_held_out(deployment)

    run(work, Deployment(use_case, root, step=None if no_wait else checked_step(step)), json, debug)


def _until_interrupted(wait: Any) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        wait()
    except KeyboardInterrupt:
        return
    raise typer.Exit(FAILED)
