"""`headrace ui`: Dagster, MLflow and the endpoint together."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from dagster_project.cli import DebugOption, RootOption, UseCaseOption, run
from dagster_project.deployment import Deployment

WORKSPACE = Path(__file__).parents[2] / "workspace.yaml"


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(ui)


def ui(
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    debug: DebugOption = False,
) -> None:
    """Open `dagster dev`, the MLflow UI and the endpoint on free ports and print the addresses."""

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.instance import prepare_home
        from dagster_project.progress import reporter
        from serving.auth import create_key
        from serving.running import running
        from serving.settings import Settings

        signal.signal(signal.SIGTERM, signal.default_int_handler)
        prepare_home(deployment)
        lake = deployment.lake
        settings = Settings(root=lake.root, use_case=str(deployment.use_case.folder))
        key = create_key(lake.keys, {"predict", "events"}, "ui")
        dagster_port, mlflow_port = _free_port(), _free_port()
        with ExitStack() as stack:
            reporter().stage("start Dagster, MLflow and the endpoint")
            dagster = stack.enter_context(_child(dagster_command(dagster_port), deployment))
            stack.enter_context(_child(mlflow_command(deployment, mlflow_port), deployment))
            server = stack.enter_context(running(settings))
            told = Console()
            for name, address in (
                ("Dagster", f"http://127.0.0.1:{dagster_port}"),
                ("MLflow", f"http://127.0.0.1:{mlflow_port}"),
                ("endpoint", f"{server.url}/docs"),
                ("API key", f"{key}  (shown once)"),
            ):
                told.print(f"{name:9} {address}", soft_wrap=True)
            told.print("Ctrl-C ends them all")
            try:
                dagster.wait()
            except KeyboardInterrupt:
                return {"stopped": "all"}
            raise RuntimeError(f"dagster dev ended with exit code {dagster.returncode}")

    run(work, Deployment(use_case, root), False, debug)


def dagster_command(port: int) -> list[str]:
    """`dagster dev` over the workspace, on loopback."""
    return [sys.executable, "-m", "dagster", "dev", "-w", str(WORKSPACE), "-h", "127.0.0.1",
            "-p", str(port)]  # fmt: skip


def mlflow_command(deployment: Deployment, port: int) -> list[str]:
    """The MLflow UI over the root's tracking store, on loopback."""
    return [sys.executable, "-m", "mlflow", "server", "--backend-store-uri",
            deployment.lake.mlflow_uri, "--artifacts-destination",
            str(deployment.lake.mlflow_artifacts), "--host", "127.0.0.1", "--port", str(port),
            "--workers", "1"]  # fmt: skip


@contextmanager
def _child(command: list[str], deployment: Deployment) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **deployment.environment(),
                   "DAGSTER_HOME": str(deployment.lake.dagster_home)}  # fmt: skip
    log = deployment.lake.root / f"{command[2]}.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, cwd=WORKSPACE.parent,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
