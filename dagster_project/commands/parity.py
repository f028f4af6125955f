"""`headrace parity`: the proof that all engines give the same features."""

from typing import Annotated, Any

import typer
from rich.table import Table

from dagster_project.command import JobFailed, command, show
from dagster_project.deployment import Deployment
from dagster_project.terminal import terminal

MISSED = {
    "non_default_share": "{value:.0%} of the values are not the default, {at_least:.0%} needed",
    "boundary_share": "{value:.0%} of the query times are at a boundary, {at_least:.0%} needed",
    "least_seen": "{feature} has {value} values not the default, {at_least} needed",
    "spark_schedules": "{value} schedules ran through Spark, {at_least} needed",
    "kill_signals": "{value} writers were killed by signal, {at_least} needed",
}
"""How a threshold that was missed is told."""


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(command(parity, closing_table, of=("log", "use_case", "root")))


def parity(
    deployment: Deployment,
    schedules: Annotated[int, typer.Option(min=1, help="Adversarial schedules to run.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same ones.")] = 0,
    spark_schedules: Annotated[
        int, typer.Option(min=0, help="How many of them run through Spark, Delta and Feast.")
    ] = 20,
    json: bool = False,
) -> dict[str, Any]:
    """Prove the engines equal on a log: lateness, duplicates, replays, kills, paused backfills."""
    from dagster_project.stages.parity import ProofSize, prove_parity

    spark = min(spark_schedules, schedules)
    size = ProofSize(schedules, seed, spark, min(ProofSize.killed, spark))
    found = prove_parity(deployment, size)
    if not found["holds"]:
        if json:
            show(found, json)
        raise JobFailed(_failure(found))
    return found


def closing_table(found: dict[str, Any]) -> None:
    """The figures, beside what they must be at least in a proof of many schedules."""
    simulated = " (simulated)" if found["simulated"] else ""
    table = Table("what", "figure", title=f"parity of {found['use_case']}{simulated}")
    table.add_row("mismatches", f"{found['mismatches']} of {found['compared']:,} values")
    real = f"{found['spark_schedules']} through Spark, Delta and Feast"
    killed = f"{found['kill_signals']} writers killed by signal"
    table.add_row("schedules", f"{found['schedules']}; {real}; {killed}")
    needed = found["thresholds"]
    whole = f"at {needed['from_schedules']} schedules"
    for name, what in (
        ("non_default_share", "not the default"),
        ("boundary_share", "asked at a boundary"),
    ):
        share = needed[name]
        table.add_row(what, f"{share['value']:.0%} ({share['at_least']:.0%} needed {whole})")
    least = needed["least_seen"]
    table.add_row(
        f"least seen: {least['feature']}",
        f"{least['value']:,} values not the default ({least['at_least']} needed {whole})",
    )
    if found["unmoved"]:
        table.add_row("no event of the log moves", ", ".join(found["unmoved"]))
    table.add_row("counted", found["counted"])
    terminal().print(table)


def _failure(found: dict[str, Any]) -> str:
    example = found["counterexample"]
    if not found["compared"]:
        return "nothing was compared: the log is too short for the declared windows"
    if example is None:
        missed = {n: t for n, t in found["thresholds"].items() if n in MISSED and not t["met"]}
        said = "; ".join(MISSED[name].format(**each) for name, each in missed.items())
        return f"no value differs, but too little was compared to say so: {said}"
    events = " ".join(str(event) for event in example["events"])
    fewest = "" if example["fewest"] else " (fewer may do: not all were tried)"
    return (
        f"{example['feature']} of {example['key']!r} at {example['q']}: the oracle says "
        f"{example['oracle']!r}, {example['engine']} {example['value']!r}, after the "
        f"{len(example['events'])} events{fewest} {events}, whose tiles are {example['tiles']}"
    )
