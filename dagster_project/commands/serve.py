"""`headrace serve | replay`: the endpoint, and a held-out log sent through it."""

import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dagster_project.command import command, show
from dagster_project.deployment import Deployment
from spark_jobs.lake_lease import lake_lease

if TYPE_CHECKING:
    from serving.settings import Settings

KEY = "HEADRACE_KEY"
FIRST_KEY = "serve"
"""Name of the key that the first `headrace serve` makes."""
ROLES = ("predict", "events", "operate")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(command(serve, lambda _: None))
    app.command()(command(replay, of=("step", "kafka", "use_case", "root")))


def serve(
    deployment: Deployment,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="HTTP port on loopback; 0 takes a free one.")
    ] = 0,
    clock: Annotated[
        Literal["system", "replay"], typer.Option(help="replay: time stands where requests do.")
    ] = "system",
    replicas: Annotated[
        str | None, typer.Option(help="How many (1); 2..8: as many as the load asks for.")
    ] = None,
    production: Annotated[
        bool, typer.Option("--production", help="Two replicas or more, the system's clock, keys.")
    ] = False,
    device: Annotated[
        Literal["cpu", "cuda", "auto"],
        typer.Option(help="Where models run; auto: a GPU where onnxruntime offers one."),
    ] = "cpu",
    plain: Annotated[
        bool, typer.Option("--plain", help="Without Ray: one process, ready in seconds.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM certificate with its chain; with --plain.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Keep a line a request, without personal data.")
    ] = False,
    new_key: Annotated[bool, typer.Option("--new-key", help="Replace the API key.")] = False,
    json: bool = False,
) -> dict[str, Any]:
    """Serve the champion until interrupted; the first start shows a new API key, once."""
    least, most = _replicas(replicas or ("2" if production else "1"))
    from dagster_project.progress import reporter
    from serving.auth import create_key, key_names
    from serving.running import running

    lake = deployment.lake
    settings = _settings(
        root=lake.root, use_case=str(deployment.use_case.folder), port=port,
        clock=clock, replicas=least, max_replicas=most,
        production=production, engine="plain" if plain else "ray", tls_cert=tls_cert,
        tls_key=tls_key, access_log=access_log, device=device,
    )  # fmt: skip
    reporter().stage(f"serve {deployment.use_case.name}")
    with running(settings) as server:
        fresh = new_key or FIRST_KEY not in key_names(lake.keys)
        key = create_key(lake.keys, ROLES, FIRST_KEY) if fresh else "as before (--new-key)"
        told = {
            "predict": f"{server.url}/{deployment.use_case.name}/v1/predict",
            "docs": f"{server.url}/docs",
            "release": f"{server.url}/{deployment.use_case.name}/release",
            "key": key,
        }
        show({**deployment.label, **told} if json else told, json)
        with suppress(KeyboardInterrupt):
            server.wait()
    return {}


def replay(
    deployment: Deployment,
    url: Annotated[
        str | None, typer.Option(help="A server with --clock replay; else one is started.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Never wait for the stream.")] = False,
) -> dict[str, Any]:
    """Send the held-out days through the endpoint in event-time order, the stream in lock-step."""
    key = os.environ.get(KEY)
    if url and not key:
        raise typer.BadParameter(f"--url needs an API key of role operate in ${KEY}")

    waiting = replace(deployment, wait=not no_wait)
    with lake_lease(waiting.lake):
        from dagster_project.stages.predictions import replay_against, replay_held_out

        if url and key:
            return replay_against(waiting, url, key)
        return replay_held_out(waiting)


def _settings(**given: Any) -> "Settings":
    from pydantic import ValidationError

    from serving.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        found = error.errors()[0]
        field = "".join(f"{part}: " for part in found["loc"])
        raise typer.BadParameter(f"{field}{found['msg'].removeprefix('Value error, ')}") from None


def _replicas(text: str) -> tuple[int, int | None]:
    """(least, most) of `2..8`, most None of `2`."""
    found = re.fullmatch(r"(\d{1,3})(?:\.\.(\d{1,3}))?", text)
    if found is None:
        raise typer.BadParameter(f"--replicas {text}: a number, or the least and the most as 2..8")
    return int(found[1]), int(found[2]) if found[2] else None
