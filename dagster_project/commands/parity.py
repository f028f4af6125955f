"""`headrace parity`: the proof that all engines give the same features."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dagster_project.cli import (
    DebugOption,
    JobFailed,
    JsonOption,
    LogOption,
    RootOption,
    UseCaseOption,
    checked_log,
    run,
    show,
)
from dagster_project.deployment import Deployment


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(parity)


def parity(
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    log: LogOption = None,
    schedules: Annotated[int, typer.Option(min=1, help="Adversarial schedules to run.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same ones.")] = 0,
    spark_schedules: Annotated[
        int, typer.Option(min=0, help="How many of them run through Spark, Delta and Feast.")
    ] = 20,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Prove the engines equal on a log: lateness, duplicates, replays, kills, paused backfills."""

    def work(deployment: Deployment) -> dict[str, Any]:
        from dagster_project.stages.parity import Plan, prove_parity

        spark = min(spark_schedules, schedules)
        plan = Plan(schedules, seed, spark, min(Plan.killed, spark))
        found = prove_parity(deployment, plan)
        if not found.pop("holds"):
            if json:
                show(found, json)
            raise JobFailed(_failure(found))
        return found

    run(work, Deployment(use_case, root, checked_log(log)), json, debug, closing_table)


def closing_table(found: dict[str, Any]) -> None:
    """The figures, and the features that were the least often other than their default."""
    table = Table("what", "figure", title=f"parity of {found['use_case']}")
    table.add_row("mismatches", f"{found['mismatches']} of {found['compared']:,} values")
    real = f"{found['spark_schedules']} through Spark, Delta and Feast"
    killed = f"{found['kill_signals']} writers killed by signal"
    table.add_row("schedules", f"{found['schedules']}; {real}; {killed}")
    table.add_row("not the default", f"{found['non_default_share']:.0%}")
    table.add_row("asked at a boundary", f"{found['boundary_share']:.0%}")
    features = found["features"]
    for name in sorted(features, key=lambda n: features[n]["non_default"])[:3]:
        table.add_row(f"least seen: {name}", f"{features[name]['non_default']:,} values")
    Console().print(table)


def _failure(found: dict[str, Any]) -> str:
    example = found["counterexample"]
    if example is None:
        return "nothing was compared: the log is too short for the declared windows"
    events = " ".join(str(event) for event in example["events"])
    return (
        f"{example['feature']} of {example['key']!r} at {example['q']}: the oracle says "
        f"{example['oracle']!r}, {example['engine']} {example['value']!r}, after the "
        f"{len(example['events'])} events {events}"
    )
