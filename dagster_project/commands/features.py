"""`headrace features list | explain`, `headrace dataset build`: features looked up and joined."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dagster_project.cli import DebugOption, JsonOption, RootOption, UseCaseOption, run
from dagster_project.deployment import Deployment

Root = Path(".headrace")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    features = typer.Typer(help="The catalogue of features, and one value explained.")
    features.command("list")(list_)
    features.command()(explain)
    app.add_typer(features, name="features")
    datasets = typer.Typer(help="Features for labels of your own.")
    datasets.command()(build)
    app.add_typer(datasets, name="dataset")


def list_(
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Every feature: what it is, its default, and how often training rows hold that."""

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.stages.catalogue import list_features

        return {"features": list_features(deployment)}

    run(work, Deployment(use_case, root), json, debug, _table)


def explain(
    entity: Annotated[str, typer.Option(help="Field and key, e.g. user_id=u1.")],
    at: Annotated[str, typer.Option(help="The query time, e.g. 2019-11-30T12:00:00Z.")],
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The features of a key at a time, with the tiles and events behind them."""

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.stages.catalogue import explain_features

        return explain_features(deployment, entity, at)

    run(work, Deployment(use_case, root), json, debug, _explained)


def build(
    labels: Annotated[Path, typer.Option(help="Parquet with the keys and a time.")],
    out: Annotated[Path, typer.Option(help="The new folder to write.")],
    features: Annotated[str, typer.Option(help="Names, by commas; all when empty.")] = "",
    time: Annotated[str, typer.Option(help="The labels' time column.")] = "event_time",
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Join features, as they were at each row's time, to a table of labels."""
    if not labels.exists():
        raise typer.BadParameter(f"--labels {labels}: no such file")
    names = [name.strip() for name in features.split(",") if name.strip()]

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.stages.catalogue import build_own_dataset

        return build_own_dataset(deployment, labels, names, time, out)

    run(work, Deployment(use_case, root), json, debug)


def _table(found: dict[str, Any]) -> None:
    table = Table("feature", "is", "kind", "default", "nulls", "rows at default", "owner")
    for entry in found["features"]:
        rate = entry["default_rate"]
        table.add_row(
            entry["name"], entry["of"], entry["kind"], f"{entry['default']:g}", entry["nulls"],
            "" if rate is None else f"{rate:.0%}", entry["owner"],
        )  # fmt: skip
    Console().print(table)


def _explained(found: dict[str, Any]) -> None:
    for group, said in found.items():
        table = Table("feature", "value", title=f"{group} {said['key']} at {said['q']}")
        for name, value in said["values"].items():
            table.add_row(name, f"{value!r}")
        Console().print(table)
        behind = Table("window", "from", "to", "tiles", "events")
        for label, window in said["windows"].items():
            ids = window["events"]
            shown = ", ".join(ids[-3:])
            if len(ids) > 3:
                shown = f"{len(ids)}, the last: {shown}"
            span = (window["from"], window["to"])
            behind.add_row(label, *span, f"{len(window['tiles'])}", shown)
        Console().print(behind)
