"""`headrace doctor`: is everything here that the loop needs?"""

import re
import shutil
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer
from rich.table import Table

from dagster_project.command import FAILED, JsonOption, KafkaOption, RootOption, UseCaseOption, show
from dagster_project.deployment import Deployment
from dagster_project.terminal import terminal
from data_contracts.kafka import KafkaTopic
from spark_jobs.java import INSTALL, java_command

JAVA = 17
_PATIENCE_S = 3
PACKAGES = ("dagster", "pyspark", "delta-spark", "mlflow", "feast", "pytorch-lightning", "ray",
            "great-expectations", "evidently")  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(doctor)


def doctor(
    kafka: KafkaOption = None,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    json: JsonOption = False,
) -> None:
    """Check Java, Spark's jars, packages, use case, stores and disk; say what mends each."""
    checks = {
        "java": _java(),
        "spark jars": _jars(),
        **{name: _package(name) for name in PACKAGES},
        f"use case {use_case}": _use_case(use_case),
        **({"kafka": _kafka(kafka)} if kafka else {}),
        **_online(use_case, root),
        "disk": _disk(root),
    }
    if json:
        show({name: {"ok": ok, "found": text} for name, (ok, text) in checks.items()}, True)
    else:
        table = Table("", "what", "found", box=None)
        for name, (ok, text) in checks.items():
            table.add_row("✓" if ok else "✗", name, text)
        terminal().print(table)
    if not all(ok for ok, _ in checks.values()):
        raise typer.Exit(FAILED)


def _java() -> tuple[bool, str]:
    try:
        java = java_command()
    except FileNotFoundError as error:
        return False, str(error)
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    found = int(match[1]) if match else 0
    if found < JAVA:
        return False, f"Java {found} ({java}), {JAVA} needed: {INSTALL}"
    return True, f"Java {found} ({java})"


def _jars() -> tuple[bool, str]:
    from spark_jobs.jars import jar_paths

    try:
        jars = jar_paths()
    except FileNotFoundError as error:
        return False, str(error)
    return True, f"{len(jars)} in {jars[0].parent}"


def _package(name: str) -> tuple[bool, str]:
    try:
        return True, version(name)
    except PackageNotFoundError:
        return False, "not installed: run `make setup`"


def _use_case(reference: str) -> tuple[bool, str]:
    from data_contracts.use_case import load_use_case

    try:
        found = load_use_case(reference)
    except ValueError as error:
        return False, str(error)
    return True, f"{len(found.groups)} groups, {len(found.feature_names)} features"


def _kafka(url: str) -> tuple[bool, str]:
    try:
        topic = KafkaTopic.parse(url)
    except ValueError as error:
        return False, str(error)
    silent: list[str] = []
    for server in topic.servers.split(","):
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host, int(port)), _PATIENCE_S).close()
        except (OSError, OverflowError) as error:
            silent.append(f"{server} takes no connection ({error}): start the broker")
    return not silent, "; ".join(silent) or f"{url}: its servers take connections"


def _online(reference: str, root: Path) -> dict[str, tuple[bool, str]]:
    """The online store by its place; nothing where there is no such use case."""
    from spark_jobs.online_store import ask, place

    deployment = Deployment(reference, root)
    try:
        deployment.use_case  # noqa: B018 - has a line of its own
    except ValueError:
        return {}
    try:
        found = True, f"{place(deployment.lake)}: {ask(deployment.lake)}"
    except (ValueError, RuntimeError) as error:
        found = False, str(error)
    return {"online store": found}


def _disk(root: Path) -> tuple[bool, str]:
    folder = next(p for p in (root.resolve(), *root.resolve().parents) if p.exists())
    free = shutil.disk_usage(folder).free / 2**30
    return free >= 2, f"{free:.1f} GiB free" + ("" if free >= 2 else ", 2 needed: free some")
