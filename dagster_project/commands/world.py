"""`headrace world`: a generated log whose click probability is known."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from dagster_project.command import DebugOption, JsonOption, run, wrong_use
from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from dagster_project.terminal import terminal
from data_contracts.world.log import write_world
from data_contracts.world.parameters import Parameters

USE_CASE = "world"


def _count(text: str | int) -> int:
    found = re.fullmatch(r"([0-9]+)([kKmM]?)", str(text))
    if found is None:
        raise typer.BadParameter(f"{text}: a number of records, e.g. 200000, 200k or 5M")
    return int(found[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[found[2].lower()]


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(world)


def world(
    out: Annotated[Path, typer.Option(help="The new folder to write.")],
    events: Annotated[
        int, typer.Option(parser=_count, metavar="N", help="Records in total: 200000, 200k, 5M.")
    ] = 200_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    drift_day: Annotated[int, typer.Option(help="Day from which clicks follow other laws.")] = (
        Parameters.drift_day
    ),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a SIMULATED log of impressions, clicks, carts and purchases, and its truth."""
    with wrong_use():
        parameters = Parameters(events, seed, drift_day=drift_day)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise typer.BadParameter(f"--out {out}: exists already: name a new folder")

    def work(_: Deployment) -> dict[str, Any]:
        report = reporter()
        report.stage(f"generate {events:,} simulated records")
        made = write_world(parameters, out, lambda n: report.detail(f"{n:,} of {events:,}"))
        return {"out": str(out), **made}

    run(work, Deployment(USE_CASE), json, debug, closing_table)


def closing_table(made: dict[str, Any]) -> None:
    """What was written, where, and what to do with it."""
    console = terminal()
    table = Table("what", "records", "file", title="simulated click world")
    days = [name for name in made["log"] if "/" not in name]
    clean = made["records"] - made["malformed"]
    table.add_row("events as they arrived", f"{clean:,}", f"{days[0]} … {days[-1]}")
    table.add_row("records that break the contract", f"{made['malformed']:,}", "malformed/")
    for name, rows in made["truth"].items():
        table.add_row(f"truth: {name.removesuffix('.jsonl')}", f"{rows:,}", f"truth/{name}")
    console.print(table)
    console.print(f"{made['from'][:16]} to {made['to'][:16]}, drift at {made['drift_at'][:16]}")
    line = f"next: headrace demo --use-case {USE_CASE} --log {made['out']}"
    console.print(line, soft_wrap=True, highlight=False)
