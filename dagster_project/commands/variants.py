"""`headrace models variants`: faster and smaller forms of a version, measured and judged."""

from typing import Annotated, Any

import typer
from rich.table import Table

from dagster_project.command import command
from dagster_project.deployment import Deployment
from dagster_project.terminal import terminal


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(command(variants, _show))


def variants(
    deployment: Deployment,
    version: Annotated[str, typer.Argument(help="A version's number.")],
    only: Annotated[str, typer.Option(help="Variants between commas; without it all.")] = "",
    budget_ms: Annotated[
        float | None,
        typer.Option(help="p99 at 21 rows to pick by; else the use case's max_latency_ms."),
    ] = None,
    runs: Annotated[
        int,
        typer.Option(min=1, help="Runs of each variant, in turn; below 3 none is called faster."),
    ] = 3,
) -> dict[str, Any]:
    """Int8, half-precision, pruned and compiled forms of a version: speed, size and log loss."""
    from dagster_project.stages.variants import variants_of
    from training.variants import VARIANTS, Trials

    names = tuple(only.split(",")) if only else VARIANTS
    return variants_of(deployment, version, Trials(names, budget_ms, runs))


def _show(found: dict[str, Any]) -> None:
    console = terminal()
    sizes = found["sizes"]
    speed = Table("µs: p50 / p99", *(f"{n} rows" for n in sizes), box=None, pad_edge=False)
    cost = Table(
        "variant",
        "graph KiB",
        "process MiB",
        "log loss - fp32",
        "ECE",
        "ECE - fp32",
        box=None,
        pad_edge=False,
    )
    for each in found["variants"]:
        if "bytes" not in each:
            continue
        pairs = zip(each["p50_ms"], each["p99_ms"], strict=True)
        speed.add_row(each["name"], *(_latency(*pair) for pair in pairs))
        cost.add_row(
            each["name"], f"{each['bytes'] / 1024:,.1f}", f"{each['rss_mib']:,.0f}",
            _above(each["above_fp32"]), f"{each['ece']:.4f}", _above(each["ece_above_fp32"]),
        )  # fmt: skip
    console.print(speed)
    console.print(cost)
    for each in found["variants"][1:]:
        console.print(f"{each['name']}: {each['reason'] or 'offered'}", highlight=False)
    budget, picked = found["budget_ms"], found["picked"] or "none"
    console.print(
        f"{found['rows']:,} held-out rows; p99 of {budget:g} ms at 21 rows picks {picked}",
        highlight=False,
    )


def _above(figure: dict[str, float]) -> str:
    return "{value:+.5f} [{low:+.5f}, {high:+.5f}]".format(**figure)


def _latency(p50: dict[str, float], p99: dict[str, float]) -> str:
    return "{:,.0f} / {:,.0f} - {:,.0f}".format(
        *(1e3 * ms for ms in (p50["median"], p99["low"], p99["high"]))
    )
