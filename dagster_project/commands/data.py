"""`headrace import | ingest | backfill | materialize`: from a raw log to features."""

import json as json_text
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dagster_project.command import JobFailed, command
from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from spark_jobs.lake_lease import lake_lease

if TYPE_CHECKING:
    from spark_jobs.stream import Progress


def _day(text: str | None) -> str | None:
    try:
        return text and date.fromisoformat(text).isoformat()
    except ValueError:
        raise typer.BadParameter(f"{text}: a day is YYYY-MM-DD") from None


Day = Annotated[str | None, typer.Option(callback=_day, help="YYYY-MM-DD, included.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("import")(command(import_, of=("log", "use_case", "root")))
    app.command()(command(ingest, of=("kafka", "use_case", "root")))
    app.command()(command(backfill, of=("kafka", "use_case", "root")))
    app.command()(command(materialize))


def import_(deployment: Deployment) -> dict[str, Any]:
    """Turn a raw log into canonical events, one file a day."""
    from dagster_project.stages.raw_log import import_raw_log

    return import_raw_log(deployment)


def ingest(
    deployment: Deployment,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Canonical JSON lines; else, without --kafka, the imported days not held out."
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Process what lands until interrupted; land named files."),
    ] = False,
    new_epoch: Annotated[
        bool,
        typer.Option(
            "--new-epoch", help="The checkpoint is lost: start another; land named files."
        ),
    ] = False,
    json: bool = False,
) -> dict[str, Any]:
    """Take files into the landing log and process all that has landed, exactly once."""
    for path in files or ():
        if not path.is_file():
            raise typer.BadParameter(f"{path}: no such file: give a file of JSON lines")

    def tell(now: "Progress") -> None:
        if json:
            typer.echo(json_text.dumps({**deployment.label, **asdict(now)}))
        lag = "unknown (Kafka is silent)" if now.lag is None else f"{now.lag:,} records"
        reporter().figures(f"{now.batches:,} batches, {now.events:,} events, lag {lag}")

    with lake_lease(deployment.lake):
        from dagster_project.stages import events

        if new_epoch:
            events.begin_anew(deployment)
        if follow:
            events.follow_landing(deployment, files or (), tell)
            raise JobFailed("the stream was stopped from outside: start it again")
        anew = new_epoch or deployment.kafka
        named = files or ([] if anew else events.imported_history(deployment))
        found = events.ingest_files(deployment, named)
    if not found["conservation"]["holds"]:
        raise JobFailed(f"conservation does not hold: {found['conservation']}")
    return found


def backfill(
    deployment: Deployment,
    first: Day = None,
    last: Day = None,
    as_known: Annotated[
        bool, typer.Option("--as-known", help="Train on what could be read online at each time.")
    ] = False,
) -> dict[str, Any]:
    """Rebuild the packed tiles of some days (default: all) and the training set."""
    if first is not None and last is not None and first > last:
        raise typer.BadParameter(f"--first {first} is after --last {last}")

    from dagster_project.stages.features import backfill_days
    from dagster_project.stages.model import build_point_in_time
    from spark_jobs.tiles import FIRST_DAY, LAST_DAY

    tiles = backfill_days(deployment, first or FIRST_DAY, last or LAST_DAY)
    return {**tiles, "training_set": build_point_in_time(deployment, as_known)}


def materialize(deployment: Deployment) -> dict[str, Any]:
    """Rebuild the online store from Delta; what the stream had written must be equal."""
    from dagster_project.stages.features import materialize_online

    found = materialize_online(deployment)
    if found["mismatches"]:
        gone = f"{found['lost']} states were gone: see that nothing evicts or deletes them; "
        came = f"{found['superfluous']} states came from no event: see who else writes; "
        raise JobFailed(
            f"{found['mismatches']} of {found['compared']} values of the stream differed from "
            f"the backfill; {gone if found['lost'] else ''}"
            f"{came if found['superfluous'] else ''}the store now holds the backfill's: "
            "report this"
        )
    return found
