"""`headrace import | ingest | backfill | materialize`: from a raw log to features."""

import json as json_text
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dagster_project.cli import (
    DebugOption,
    JobFailed,
    JsonOption,
    KafkaOption,
    LogOption,
    RootOption,
    UseCaseOption,
    checked_log,
    run,
)
from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from spark_jobs.lake_lease import lake_lease

Root = Path(".headrace")
Day = Annotated[str | None, typer.Option(help="YYYY-MM-DD, included.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("import")(import_)
    app.command()(ingest)
    app.command()(backfill)
    app.command()(materialize)


def import_(
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    log: LogOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn a raw log into canonical events, one file a day."""

    def work(deployment: Deployment) -> dict[str, object]:
        from dagster_project.stages.raw_log import import_raw_log

        return import_raw_log(deployment)

    run(work, Deployment(use_case, root, checked_log(log)), json, debug)


def ingest(
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
    kafka: KafkaOption = None,
    new_epoch: Annotated[
        bool,
        typer.Option(
            "--new-epoch", help="The checkpoint is lost: start another; land named files."
        ),
    ] = False,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take files into the landing log and process all that has landed, exactly once."""
    for path in files or ():
        if not path.is_file():
            raise typer.BadParameter(f"{path}: no such file: give a file of JSON lines")

    def keep_on(deployment: Deployment) -> dict[str, object]:
        with lake_lease(deployment.lake):
            from dagster_project.stages.events import begin_anew, follow_landing
            from spark_jobs.stream import Progress

            def tell(now: Progress) -> None:
                if json:
                    typer.echo(json_text.dumps({**deployment.label, **asdict(now)}))
                lag = "unknown (Kafka is silent)" if now.lag is None else f"{now.lag:,} records"
                reporter().figures(f"{now.batches:,} batches, {now.events:,} events, lag {lag}")

            if new_epoch:
                begin_anew(deployment)
            follow_landing(deployment, files or (), tell)
        raise JobFailed("the stream was stopped from outside: start it again")

    def work(deployment: Deployment) -> dict[str, object]:
        with lake_lease(deployment.lake):
            from dagster_project.stages.events import begin_anew, imported_history, ingest_files

            if new_epoch:
                begin_anew(deployment)
            named = files or ([] if new_epoch or kafka else imported_history(deployment))
            found = ingest_files(deployment, named)
        if not found["conservation"]["holds"]:
            raise JobFailed(f"conservation does not hold: {found['conservation']}")
        return found

    run(keep_on if follow else work, Deployment(use_case, root, kafka=kafka), json, debug)


def backfill(
    first: Day = None,
    last: Day = None,
    as_known: Annotated[
        bool, typer.Option("--as-known", help="Train on what could be read online at each time.")
    ] = False,
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Rebuild the packed tiles of some days (default: all) and the training set."""

    for day in (first, last):
        if day is not None and not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
            raise typer.BadParameter(f"{day}: a day is YYYY-MM-DD")

    def work(deployment: Deployment) -> dict[str, object]:
        from dagster_project.stages.features import backfill_days
        from dagster_project.stages.model import build_point_in_time
        from spark_jobs.tiles import FIRST_DAY, LAST_DAY

        tiles = backfill_days(deployment, first or FIRST_DAY, last or LAST_DAY)
        return {**tiles, "training_set": build_point_in_time(deployment, as_known)}

    run(work, Deployment(use_case, root), json, debug)


def materialize(
    use_case: UseCaseOption = "clicks",
    root: RootOption = Root,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Rebuild the online store from Delta; what the stream had written must be equal."""

    def work(deployment: Deployment) -> dict[str, object]:
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

    run(work, Deployment(use_case, root), json, debug)
