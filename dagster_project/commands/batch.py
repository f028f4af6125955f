"""`headrace batch load`: the rows of a declared batch table become events."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dagster_project.cli import DebugOption, JsonOption, KafkaOption, RootOption, UseCaseOption, run
from dagster_project.deployment import Deployment
from spark_jobs.lake_lease import lake_lease


def register(app: typer.Typer) -> None:
    """Add this command."""
    batch = typer.Typer(help="Tables that another system fills.")
    # A group of one command would be that command.
    batch.callback()(_group)
    batch.command()(load)
    app.add_typer(batch, name="batch")


def _group() -> None:
    """Tables that another system fills."""


def load(
    name: Annotated[str, typer.Argument(help="The table's declared name.")],
    file: Annotated[Path, typer.Option(help="Parquet, JSON lines, a folder of them, or Delta.")],
    kafka: KafkaOption = None,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Path(".headrace"),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Ingest a table's rows as events; the same rows again add nothing."""

    def work(deployment: Deployment) -> dict[str, Any]:
        with lake_lease(deployment.lake):
            from dagster_project.stages.batch import load_batch

            return load_batch(deployment, name, file)

    run(work, Deployment(use_case, root, kafka=kafka), json, debug)
