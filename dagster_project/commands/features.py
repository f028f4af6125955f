"""`headrace features list | plan | explain | retire`, `headrace dataset build`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from dagster_project.command import command, wrong_use
from dagster_project.deployment import Deployment
from dagster_project.terminal import terminal
from data_contracts.clock import parse_time

Root = Path(".headrace")
STORES = ("online", "tiles")
"""Where a value is stored, beside the events that give it."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    features = typer.Typer(
        help="The catalogue of features, what a change costs, one value explained."
    )
    features.command("list")(command(list_, _table))
    features.command()(command(plan, _planned))
    features.command()(command(explain, _explained))
    features.command()(command(retire))
    app.add_typer(features, name="features")
    datasets = typer.Typer(help="Features for labels of your own.")
    datasets.command()(command(build))
    app.add_typer(datasets, name="dataset")


def list_(deployment: Deployment) -> dict[str, Any]:
    """Every feature: what it is, its default, and how often training rows hold that."""
    from dagster_project.stages.catalogue import list_features

    return list_features(deployment)


def plan(deployment: Deployment) -> dict[str, Any]:
    """What of the declared features is to be computed, at which cost; and who reads each view."""
    from dagster_project.stages.definitions import plan_features

    return plan_features(deployment)


def retire(
    deployment: Deployment,
    views: Annotated[list[str] | None, typer.Argument(help="Views, as `plan` names them.")] = None,
    unread: Annotated[bool, typer.Option("--unread", help="Every view nothing reads.")] = False,
) -> dict[str, Any]:
    """Delete views of the online store that nothing reads, with their states and tiles."""
    if bool(views) == unread:
        raise typer.BadParameter("name views, or give --unread")

    from dagster_project.stages.definitions import retire_views

    return retire_views(deployment, views or (), unread)


def explain(
    deployment: Deployment,
    entity: Annotated[str, typer.Option(help="E.g. user_id=u1; of a pair user_id=u1,item_id=i1.")],
    at: Annotated[str, typer.Option(help="The query time, e.g. 2019-11-30T12:00:00Z.")],
) -> dict[str, Any]:
    """The features of a key at a time, with the tiles and events behind them."""
    from dagster_project.stages.catalogue import explain_features

    with wrong_use("--at"):
        parse_time(at)
    return explain_features(deployment, entity, at)


def build(
    deployment: Deployment,
    labels: Annotated[Path, typer.Option(help="Parquet or Delta with the keys and a time.")],
    features: Annotated[str, typer.Option(help="Names, by commas; all when empty.")] = "",
    time: Annotated[str, typer.Option(help="The labels' time column.")] = "event_time",
    as_known: Annotated[
        bool, typer.Option("--as-known", help="From what could be read online at each time.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The new folder to write.", show_default="by the labels' name"),
    ] = None,
) -> dict[str, Any]:
    """Join features, as they were at each row's time, to a table of labels."""
    if not labels.exists():
        raise typer.BadParameter(f"--labels {labels}: no such file")
    names = [name.strip() for name in features.split(",") if name.strip()]

    from dagster_project.stages.catalogue import build_own_dataset

    to = out or deployment.lake.datasets / labels.stem
    return build_own_dataset(deployment, labels, names, time, to, as_known)


def _table(found: dict[str, Any]) -> None:
    heads = ("feature", "is", "type", "kind", "default", "rows at default", "nulls", "null")
    table = Table(*heads, "models")
    for entry in found["features"]:
        table.add_row(
            entry["name"], entry["of"], entry["type"], entry["kind"], f"{entry['default']:g}",
            _share(entry["default_rate"]), entry["nulls"], _share(entry["null_rate"]),
            ", ".join(entry["models"]),
        )  # fmt: skip
    terminal().print(table)
    groups = Table("group", "of", "events up to", "owner", "description")
    for entry in {entry["group"]: entry for entry in found["features"]}.values():
        groups.add_row(
            entry["group"], entry["entity"], entry["fresh_to"] or "none yet", entry["owner"],
            entry["description"],
        )  # fmt: skip
    terminal().print(groups)


def _share(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.0%}"


def _planned(found: dict[str, Any]) -> None:
    costs = {
        "bytes a key, at worst": "key_bytes", "events to read": "events", "of days": "days",
        "keys": "keys", "events of the largest": "largest_key", "bytes at worst": "worst_bytes",
    }  # fmt: skip
    table = Table("group", "kept", "to compute", *costs, "seconds, as the last backfill")
    for group in found["groups"]:
        seconds = group["seconds"]
        table.add_row(
            group["group"], f"{len(group['kept'])}", ", ".join(group["computed"]),
            *(f"{group[name]:,}" for name in costs.values()),
            "not known yet" if seconds is None else f"{seconds:,.1f}",
        )  # fmt: skip
    terminal().print(table)
    views = Table("view", "read by")
    for view in found["views"]:
        views.add_row(view["view"], ", ".join(view["read_by"]) or "nothing: retire it")
    terminal().print(views)


def _explained(found: dict[str, Any]) -> None:
    for group, said in found.items():
        stored = said["stored"]
        heads = ["feature", "from its events"]
        if stored:
            later = "" if stored["asked"] == said["q"] else f" at {stored['asked']}"
            heads += [f"online store{later}", f"packed tiles{later}"]
        table = Table(*heads, title=f"{group} {said['key']} at {said['q']}")
        for name, value in said["values"].items():
            also = [stored[store].get(name, "folded") for store in STORES] if stored else []
            table.add_row(name, f"{value!r}", *map(str, also))
        terminal().print(table)
        behind = Table("window", "from", "to", "events")
        for label, window in said["windows"].items():
            ids = window["events"]
            shown = ", ".join(ids[-3:])
            if len(ids) > 3:
                shown = f"{len(ids)}, the last: {shown}"
            behind.add_row(label, window["from"], window["to"], shown)
        terminal().print(behind)
        tiles = Table("window", "tile", "seconds", "holds")
        for label, window in said["windows"].items():
            for tile in window["tiles"]:
                holds = ", ".join(f"{name} {parts}" for name, parts in tile["holds"].items())
                width = "" if tile["seconds"] is None else f"{tile['seconds']}"
                tiles.add_row(label, tile["start"], width, holds)
        terminal().print(tiles)
        for view, state in (stored["states"] if stored else {}).items():
            days = ", ".join(f"{row['day']} (seq {row['seq']})" for row in stored["days"][view])
            state = state or {"seq": "none", "as_of": "never", "tiles": ()}
            terminal().print(
                f"view {view}: state of seq {state['seq']} as of {state['as_of']}, "
                f"{len(state['tiles'])} tiles; packed days: {days or 'none'}"
            )
