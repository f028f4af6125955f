"""`headrace keys create | list | revoke`: who may ask the server what, and how often."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table

from dagster_project.cli import DebugOption, JsonOption, RootOption, run
from dagster_project.deployment import Deployment
from serving.auth import Role, create_key, key_names, revoke_key, stored_keys

Name = Annotated[str, typer.Argument(help="What the key is called.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    keys = typer.Typer(help="API keys of the server: their roles, rates and quotas.")
    keys.command()(create)
    keys.command("list")(list_)
    keys.command()(revoke)
    app.add_typer(keys, name="keys")


def create(
    name: Name,
    role: Annotated[
        list[str], typer.Option(help="predict, events, metrics or operate; may be repeated.")
    ],
    rate: Annotated[
        float | None, typer.Option(help="Requests a second that a replica takes from it.")
    ] = None,
    quota: Annotated[
        int | None, typer.Option(help="Requests that a replica takes from it in a UTC day.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="End the key of this name.")] = False,
    root: RootOption = Path(".headrace"),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a key; it is shown now and never again. A server takes it at once."""

    def work(deployment: Deployment) -> dict[str, Any]:
        path = deployment.lake.keys
        if not replace and name in key_names(path):
            raise ValueError(f"key {name!r}: there is one: name another, or --replace it")
        made = create_key(path, cast(list[Role], role), name, rate, quota)
        return {"name": name, "roles": sorted({*role}), "key": made}

    run(work, Deployment("clicks", root), json, debug)


def list_(
    root: RootOption = Path(".headrace"), json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Every key's name, roles and limits."""

    def work(deployment: Deployment) -> dict[str, Any]:
        found = [
            {"name": key.name, "roles": [*key.roles], "rate": key.rate, "quota": key.quota}
            for key in stored_keys(deployment.lake.keys)
        ]
        return {"keys": found}

    run(work, Deployment("clicks", root), json, debug, _table)


def revoke(
    name: Name,
    root: RootOption = Path(".headrace"),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """End a key; no server takes it any longer."""

    def work(deployment: Deployment) -> dict[str, Any]:
        revoke_key(deployment.lake.keys, name)
        return {"revoked": name}

    run(work, Deployment("clicks", root), json, debug)


def _table(found: dict[str, Any]) -> None:
    table = Table("name", "roles", "requests a second", "requests a day")
    for key in found["keys"]:
        limits = ("any" if key[limit] is None else f"{key[limit]:,}" for limit in ("rate", "quota"))
        table.add_row(key["name"], ", ".join(key["roles"]), *limits)
    Console().print(table)
