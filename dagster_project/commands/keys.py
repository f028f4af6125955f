"""`headrace keys create | list | revoke`: who may ask the server what, and how often."""

from typing import Annotated, Any, cast

import typer
from rich.table import Table

from dagster_project.command import command, wrong_use
from dagster_project.deployment import Deployment
from dagster_project.terminal import terminal
from serving.auth import Role, check_key, create_key, key_names, revoke_key, stored_keys

Name = Annotated[str, typer.Argument(help="What the key is called.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    keys = typer.Typer(help="API keys of the server: their roles, rates and quotas.")
    keys.command()(command(create, of=("root",)))
    keys.command("list")(command(list_, _table, of=("root",)))
    keys.command()(command(revoke, of=("root",)))
    app.add_typer(keys, name="keys")


def create(
    deployment: Deployment,
    name: Name,
    role: Annotated[
        list[str], typer.Option(help="predict, events, metrics or operate; may be repeated.")
    ],
    rate: Annotated[
        float | None, typer.Option(help="Requests a second that a replica takes from it.")
    ] = None,
    quota: Annotated[
        int | None, typer.Option(help="Requests that all replicas take from it in a UTC day.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="End the key of this name.")] = False,
) -> dict[str, Any]:
    """Make a key; it is shown now and never again. A server takes it at once."""
    path, roles = deployment.lake.keys, cast(list[Role], role)
    with wrong_use():
        check_key(name, roles, rate, quota)
    if not replace and name in key_names(path):
        raise ValueError(f"key {name!r}: there is one: name another, or --replace it")
    made = create_key(path, roles, name, rate, quota)
    return {"name": name, "roles": sorted({*role}), "key": made}


def list_(deployment: Deployment) -> dict[str, Any]:
    """Every key's name, roles and limits."""
    found = [
        {"name": key.name, "roles": [*key.roles], "rate": key.rate, "quota": key.quota}
        for key in stored_keys(deployment.lake.keys)
    ]
    return {"keys": found}


def revoke(
    deployment: Deployment,
    name: Name,
) -> dict[str, Any]:
    """End a key; no server takes it any longer."""
    revoke_key(deployment.lake.keys, name)
    return {"revoked": name}


def _table(found: dict[str, Any]) -> None:
    table = Table("name", "roles", "requests a second", "requests a day")
    for key in found["keys"]:
        limits = ("any" if key[limit] is None else f"{key[limit]:,}" for limit in ("rate", "quota"))
        table.add_row(key["name"], ", ".join(key["roles"]), *limits)
    terminal().print(table)
