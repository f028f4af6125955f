"""`headrace rollout plan`: what a release needs at given traffic."""

from typing import Annotated, Any

import typer
from rich.table import Table

from dagster_project.command import command
from dagster_project.deployment import Deployment
from dagster_project.terminal import terminal


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(command(plan, lambda _: None))


def plan(
    deployment: Deployment,
    impressions: Annotated[float | None, typer.Option(help="Impressions a day.")] = None,
    requests: Annotated[float | None, typer.Option(help="Requests a day.")] = None,
    users: Annotated[float | None, typer.Option(help="Distinct users a day.")] = None,
    new_users: Annotated[
        float | None, typer.Option(help="Of them those who did not come on the days before.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="CTR.")] = None,
    design_effect: Annotated[
        float | None,
        typer.Option(help="Variance of the CTR over that of independent impressions."),
    ] = None,
    gap_deviation: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of two models' log-loss gap, nats, over impressions; users "
            "who come back in it."
        ),
    ] = None,
    log_loss: Annotated[float | None, typer.Option(help="The champion's, nats.")] = None,
    json: bool = False,
) -> dict[str, Any]:
    """Impressions and days that each required gate of a release needs; fails beyond max_days.

    What is not given is measured on the matured outcomes.
    """
    given = {
        "impressions_per_day": impressions,
        "requests_per_day": requests,
        "new_users_per_day": new_users,
        "users_per_day": users,
        "rate": rate,
        "design_effect": design_effect,
        "gap_deviation": gap_deviation,
        "log_loss": log_loss,
    }

    from dagster_project.stages.rollout import exposure, traffic

    seen = traffic(deployment, given)
    found = exposure(deployment, seen)
    told = {**found.as_dict(), "traffic": seen.as_dict()}
    if not json:
        _show(told)
    found.check()
    return told


def _show(found: dict[str, Any]) -> None:
    table = Table()
    for name in ("gate", "stage", "share", "impressions", "days"):
        table.add_column(name)
    for need in found["needs"]:
        table.add_row(
            need["check"], need["stage"], f"{need['share']:.0%}",
            f"{need['impressions']:,}", f"{need['days']:.2f}",
        )  # fmt: skip
    console, seen = terminal(), found["traffic"]
    console.print(
        f"{seen['impressions_per_day']:,.0f} impressions, {seen['requests_per_day']:,.0f} requests "
        f"and {seen['users_per_day']:,.0f} users a day, {seen['new_users_per_day']:,.0f} of them "
        f"new, CTR {seen['rate']:.5f}, design effect {seen['design_effect']:.2f}, log loss "
        f"{seen['log_loss']:.4f} and a candidate's gap to it {seen['gap_deviation']:.4f}"
        + (f" ({' and '.join(seen['assumed'])} assumed)" if seen["assumed"] else "")
    )
    console.print(table)
    console.print(f"{found['days']:.1f} days of at most {found['max_days']:g}")
