"""`headrace ui`: Dagster, MLflow and the endpoint together."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import typer

from dagster_project.command import command, show
from dagster_project.deployment import Deployment
from dagster_project.terminal import terminal

WORKSPACE = Path(__file__).parents[2] / "workspace.yaml"
_RUNS = "/#/experiments/{experiment}/runs?workflowType=machine_learning"
"""Where MLflow's page shows runs: of itself it opens an experiment at its agents' traces."""
_PATIENCE_S = 180.0
_PAUSE_S = 0.2


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(command(ui, of=("log", "kafka", "use_case", "root")))


def ui(deployment: Deployment, json: bool = False) -> dict[str, Any]:
    """Open `dagster dev`, the MLflow UI and the endpoint; print addresses once they answer."""
    from dagster_project.instance import prepare_home
    from dagster_project.progress import reporter
    from serving.auth import create_key
    from serving.running import running
    from serving.settings import Settings
    from training.registry import Registry

    prepare_home(deployment)
    lake = deployment.lake
    settings = Settings(root=lake.root, use_case=str(deployment.use_case.folder))
    key = create_key(lake.keys, {"predict", "events"}, "ui")
    runs = _RUNS.format(experiment=Registry(lake).experiment(deployment.use_case.name))
    dagster_port, mlflow_port = _free_port(), _free_port()
    with ExitStack() as stack:
        reporter().stage("start Dagster, MLflow and the endpoint")
        pages: dict[str, _Page] = {}
        for name, port, arguments in (
            ("dagster", dagster_port, dagster_command(dagster_port)),
            ("mlflow", mlflow_port, mlflow_command(deployment, mlflow_port)),
        ):
            url, log = f"http://127.0.0.1:{port}", lake.root / f"{name}.log"
            process = stack.enter_context(_child(arguments, deployment, log))
            pages[name] = _Page(url, process, log)
        server = stack.enter_context(running(settings))
        for page in pages.values():
            page.wait_for_answer()
        told = {
            "dagster": pages["dagster"].url,
            "mlflow": f"{pages['mlflow'].url}{runs}",
            "endpoint": f"{server.url}/docs",
            "key": key,
        }
        shown_once = {**told, "key": f"{key}  (shown once)"}
        show({**deployment.label, **told} if json else shown_once, json)
        if not json:
            terminal().print("Ctrl-C ends them all")
        try:
            pages["dagster"].process.wait()
        except KeyboardInterrupt:
            return {} if json else {"stopped": "all"}
        raise RuntimeError(f"dagster dev ended: see {pages['dagster'].log}")


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


@dataclass(frozen=True)
class _Page:
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait_for_answer(self) -> None:
        """Return once the address answers; RuntimeError naming the log when it does not."""
        end = time.monotonic() + _PATIENCE_S
        while self.process.poll() is None and time.monotonic() < end:
            with suppress(httpx.TransportError):
                if httpx.get(self.url, follow_redirects=True, trust_env=False).is_success:
                    return
            time.sleep(_PAUSE_S)
        raise RuntimeError(f"{self.url}: no answer: see {self.log}")


@contextmanager
def _child(
    command: list[str], deployment: Deployment, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **deployment.environment(),
                   "DAGSTER_HOME": str(deployment.lake.dagster_home)}  # fmt: skip
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
