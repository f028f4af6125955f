"""`headrace models plan`: what a release needs at given traffic."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dagster_project.cli import DebugOption, JsonOption, RootOption, UseCaseOption, run
from dagster_project.deployment import Deployment


def plan(
    impressions: Annotated[float, typer.Option(help="Impressions a day.")],
    users: Annotated[float, typer.Option(help="Distinct users a day.")],
    rate: Annotated[
        float | None, typer.Option(help="CTR; without it that of the matured predictions.")
    ] = None,
    design_effect: Annotated[
        float, typer.Option(help="Variance of the CTR over that of independent impressions.")
    ] = 2.0,
    gap_deviation: Annotated[
        float, typer.Option(help="Standard deviation of two models' log-loss gap, nats.")
    ] = 0.05,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Impressions and days that each required gate of a release needs; fails beyond max_days."""

    def work(deployment: Deployment) -> dict[str, object]:
        from data_contracts.exposure import Traffic
        from data_contracts.exposure import plan as planned
        from data_contracts.results import read_result

        gates, known = deployment.use_case.declared.gates, rate
        if known is None:
            metrics = read_result(deployment.lake, "outcomes")
            known = metrics["positives"] / metrics["metrics"]["log_loss"]["n"]
        traffic = Traffic(impressions, users, known, design_effect, gap_deviation)
        found = planned(gates.rules, traffic, gates.alpha, gates.max_days)
        if not json:
            _show(found.as_dict())
        found.check()
        return found.as_dict()

    run(work, Deployment(use_case, root), json, debug, present=lambda _: None)


def _show(found: dict[str, object]) -> None:
    table = Table()
    for name in ("gate", "stage", "share", "impressions", "days"):
        table.add_column(name)
    needs = found["needs"]
    assert isinstance(needs, list)
    for need in needs:
        table.add_row(
            need["check"], need["stage"], f"{need['share']:.0%}",
            f"{need['impressions']:,}", f"{need['days']:.2f}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(f"{found['days']:.1f} days of at most {found['max_days']:g}")
