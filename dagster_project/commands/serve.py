"""`headrace serve | replay`: the endpoint, and a held-out log sent through it."""

import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from dagster_project.cli import (
    FAILED,
    DebugOption,
    JsonOption,
    RootOption,
    StepOption,
    UseCaseOption,
    checked_step,
    run,
    show,
)
from dagster_project.deployment import Deployment

KEY = "HEADRACE_KEY"
FIRST_KEY = "serve"
"""Name of the key that the first `headrace serve` makes."""
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
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Serve the champion until interrupted; the first start shows a new API key, once."""

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.progress import reporter
        from serving.auth import create_key, key_names
        from serving.running import running
        from serving.settings import Settings

        lake = deployment.lake
        known = key_names(lake.keys)
        key = None if FIRST_KEY in known else create_key(lake.keys, ROLES, FIRST_KEY)
        reporter().stage(f"serve {deployment.use_case.name}")
        settings = Settings.model_validate(
            {"root": lake.root, "use_case": str(deployment.use_case.folder),
             "port": port, "clock": clock, "replicas": replicas}
        )  # fmt: skip
        with running(settings) as server:
            told = {
                "predict": f"{server.url}/{deployment.use_case.name}/v1/predict",
                "docs": f"{server.url}/docs",
                "key": key or f"the one shown at the first start; hashes are in {lake.keys}",
            }
            show(told, json)
            _until_interrupted(server.process.wait)
        return {"stopped": server.url}

    run(work, Deployment(use_case, root), json, debug)


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
