"""`headrace models list | show | compare | promote | demote | history | verify | plan |
retrieve | variants | value`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from dagster_project.command import JobFailed, command
from dagster_project.commands import plan, retrieve, value, variants
from dagster_project.deployment import Deployment
from dagster_project.gate_table import gate_table
from dagster_project.terminal import terminal

Root = Path(".headrace")
Version = Annotated[str, typer.Argument(help="A version's number.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    models = typer.Typer(help="Registered versions: what they are, how they move, and the ledger.")
    versions = ("version", "aliases", "model", "verdict", "bundle")
    models.command("list")(command(list_, _rows("versions", versions)))
    models.command()(command(show, present_version))
    models.command()(command(compare, _compared))
    models.command()(command(promote))
    models.command()(command(demote))
    moves = ("row", "time", "actor", "action", "version", "to", "verdict", "override")
    models.command()(command(history, _rows("moves", moves)))
    models.command()(command(verify))
    for each in (plan, retrieve, variants, value):
        each.register(models)
    app.add_typer(models, name="models")


def list_(deployment: Deployment) -> dict[str, Any]:
    """Every version with its aliases and the verdict of its gates."""
    from dagster_project.stages.models import list_versions

    return list_versions(deployment)


def show(
    deployment: Deployment,
    version: Version,
) -> dict[str, Any]:
    """One version: its figures, the checks of its gates, its moves."""
    from dagster_project.stages.models import show_version

    return show_version(deployment, version)


def compare(
    deployment: Deployment,
    first: Version,
    second: Version,
) -> dict[str, Any]:
    """Two versions side by side; their figures compare only on the same test rows."""
    from dagster_project.stages.models import compare_versions

    return compare_versions(deployment, first, second)


def promote(
    deployment: Deployment,
    version: Version,
    to: Annotated[
        str | None, typer.Option(help="challenger, shadow, canary or champion; else the next.")
    ] = None,
    seen: Annotated[
        str | None,
        typer.Option(
            "--from", help="The stage that you saw it in, or none: refused where it has left that."
        ),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who overrides the gates.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why they are overridden.")] = None,
) -> dict[str, Any]:
    """Move a version on, if its gates allow it or someone overrides them."""
    if (by is None) != (reason is None):
        raise typer.BadParameter("--by and --reason: an override needs both")

    from dagster_project.stages.models import promote_version
    from data_contracts.override import Override

    override = Override(by, reason) if by is not None and reason is not None else None
    return promote_version(deployment, version, to, override, seen)


def demote(
    deployment: Deployment,
    version: Version,
    by: Annotated[str, typer.Option(help="Who takes it back.")],
    reason: Annotated[str, typer.Option(help="Why.")],
) -> dict[str, Any]:
    """Take a version from its stage; a champion gives way to the previous one."""
    from dagster_project.stages.models import demote_version
    from data_contracts.override import Override

    return demote_version(deployment, version, Override(by, reason))


def history(deployment: Deployment) -> dict[str, Any]:
    """Every move, oldest first."""
    from dagster_project.stages.models import history as told

    return told(deployment)


def verify(deployment: Deployment) -> dict[str, Any]:
    """Make every decision of the ledger again and look for what was edited, lost or cut."""
    from dagster_project.stages.models import verify as verified

    found = verified(deployment)
    if found["faults"]:
        told = "; ".join((*found["faults"], *found["deleted"]))
        raise JobFailed(f"the ledger is not sound: {told}")
    return found


def _rows(entry: str, columns: tuple[str, ...]) -> Callable[[dict[str, Any]], None]:
    def present(found: dict[str, Any]) -> None:
        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(column)
        for row in found[entry]:
            table.add_row(*(_cell(row[column]) for column in columns))
        terminal().print(table)

    return present


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['name']}: {value['reason']}"
    if isinstance(value, list):
        return ", ".join(value)
    text = "" if value is None else str(value)
    return text[:12] if len(text) == 64 else text


def present_version(found: dict[str, Any]) -> None:
    """Print what `show_version` gave."""
    console = terminal()
    lines = ("version", "aliases", "model", "continued_from", "verdict", "bundle", "run_id")
    for name in (*lines, "features"):
        console.print(f"{name:14} {_cell(found[name])}", highlight=False)
    others = found["baselines"]
    metric = Column("metric", no_wrap=True)
    table = Table(metric, "value", "interval", *others, box=None, pad_edge=False)
    for name in dict.fromkeys(
        name for each in (found["metrics"], *others.values()) for name in each
    ):
        beside = (" ".join(_figure(each.get(name))) for each in others.values())
        table.add_row(name, *_figure(found["metrics"].get(name)), *beside)
    console.print(table)
    console.print(gate_table(found["decision"]))
    if found["slate_value"]:
        value.present_value(found["slate_value"])


def _compared(found: dict[str, Any]) -> None:
    one, other = found["versions"]
    table = Table("metric", f"version {one}", "", f"version {other}", "", box=None, pad_edge=False)
    for name, pair in found["metrics"].items():
        table.add_row(name, *(text for figure in pair for text in _figure(figure)))
    console = terminal()
    console.print(table)
    rows = "the same" if found["same_test_rows"] else "OTHER: the figures do not compare"
    console.print(f"test rows: {rows}", highlight=False)
    differ = ", ".join(found["features_that_differ"]) or "none"
    console.print(f"features that differ: {differ}", highlight=False)


def _figure(figure: dict[str, Any] | None) -> tuple[str, str]:
    if figure is None or figure["value"] is None:
        return "", ""
    low, high = (figure[end] for end in ("low", "high"))
    known = low is not None and high is not None
    return f"{figure['value']:.5f}", f"[{low:.5f}, {high:.5f}]" if known else ""
