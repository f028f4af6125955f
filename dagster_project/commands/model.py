"""`headrace train | report`."""

from typing import Annotated, Any

import typer

from dagster_project.command import command, show, wrong_use
from dagster_project.commands.demo import closing_table
from dagster_project.deployment import Deployment
from dagster_project.gate_table import gate_table
from dagster_project.terminal import terminal
from training.models.names import MODELS


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(command(train, present_trained))
    app.command()(command(report, closing_table, of=("kafka", "use_case", "root")))


def train(
    deployment: Deployment,
    model: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(MODELS)}.", show_default="as the use case declares"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier training was ended.")
    ] = False,
    warm_start: Annotated[
        bool | None,
        typer.Option(
            "--warm-start/--no-warm-start",
            help="Begin with the champion's weights.",
            show_default="as the use case declares",
        ),
    ] = None,
    search: Annotated[int, typer.Option(min=0, help="Hyper-parameter trials before the fit.")] = 0,
) -> dict[str, Any]:
    """Train a version on the training set, judge it by its gates, register it."""
    if model not in (None, *MODELS):
        raise typer.BadParameter(f"--model {model}: one of {', '.join(MODELS)}")

    from dagster_project.stages.model import train_model
    from training.train import Choices

    with wrong_use():
        choices = Choices(resume, warm_start, search)
    return train_model(deployment, model, choices)


def report(deployment: Deployment) -> dict[str, Any]:
    """Join outcomes, watch drift, value policies; then write report.json and report.html."""
    from dagster_project.stages.drift import watch_drift
    from dagster_project.stages.events import conserved
    from dagster_project.stages.outcomes import join_outcomes, value_policies
    from dagster_project.stages.report import write_report
    from data_contracts.results import read_result

    read_result(deployment.lake, "model")
    for stage in (conserved, join_outcomes, value_policies, watch_drift):
        stage(deployment)
    return write_report(deployment)


def present_trained(found: dict[str, Any]) -> None:
    """Print what `train_model` gave."""
    show({**found, "decision": found["decision"]["verdict"]}, as_json=False)
    terminal().print(gate_table(found["decision"]))
