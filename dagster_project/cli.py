"""The `headrace` command: its options, its errors of one line, its exit codes."""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from typer._click.exceptions import NoArgsIsHelpError, UsageError

from dagster_project.deployment import KAFKA, Deployment
from dagster_project.progress import shown
from dagster_project.quiet import quiet
from data_contracts.clock import duration

app = typer.Typer(
    name="headrace",
    help="From an event log to a served, watched and retrained model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

UseCaseOption = Annotated[
    str, typer.Option("--use-case", help="A use case's name, or the path to its folder.")
]
RootOption = Annotated[Path, typer.Option("--root", help="The lake: where all data lies.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
KafkaOption = Annotated[
    str | None,
    typer.Option(
        "--kafka", envvar=KAFKA, help="kafka://host:port/topic, taken beside the landing log."
    ),
]
LogOption = Annotated[Path | None, typer.Option("--log", help="The raw log: a file or a folder.")]
StepOption = Annotated[
    str, typer.Option("--step", help="Simulated time after which the replay waits for the stream.")
]

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
COMMANDS = (
    "doctor",
    "data",
    "model",
    "models",
    "rollout",
    "serve",
    "demo",
    "ui",
    "world",
    "parity",
    "features",
    "score",
    "quarantine",
    "maintain",
    "bench",
    "batch",
    "dimension",
    "keys",
)


class JobFailed(Exception):
    """The work was done and its outcome is a failure, told in the message: exit code 1."""


def checked_log(log: Path | None) -> Path | None:
    """`log` if it exists or is not given; else wrong use."""
    if log is not None and not log.exists():
        raise typer.BadParameter(f"{log}: no such file or folder: give the raw log")
    return log


def checked_step(step: str) -> str:
    """`step` if it is a duration; else wrong use."""
    try:
        duration(step)
    except ValueError as error:
        raise typer.BadParameter(f"--step: {error}") from None
    return step


def run(
    work: Callable[[Deployment], Mapping[str, Any]],
    deployment: Deployment,
    as_json: bool,
    debug: bool,
    present: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Run `work` with progress on standard error and its result on standard output.

    `present` shows the result to people in place of a plain table. Of a simulated use case the
    first line, or an entry of the JSON, says that it is. One that names `problems` is shown, and is
    a failure.
    """
    errors = Console(stderr=True)
    try:
        deployment.lake  # noqa: B018 - wrong use is told before any work begins
        label = deployment.label
        if deployment.root.exists() and not deployment.root.is_dir():
            raise ValueError(f"--root {deployment.root}: is a file: name a folder")
    except Exception as error:
        _fail(errors, error, WRONG_USE, debug)
    try:
        if as_json:
            found = work(deployment)
            result = {**label, **found} if found else {}
        else:
            if label:
                Console().print(f"{deployment.use_case.title}: of no real user or item")
            with shown(errors):
                result = work(deployment)
        if present and not as_json:
            present(dict(result))
        elif result:
            show(result, as_json)
        if problems := result.get("problems"):
            raise JobFailed(f"not sound: {'; '.join(problems)}")
    except KeyboardInterrupt:
        errors.print("headrace: interrupted", style="bold")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        _fail(errors, error, FAILED, debug)


def show(result: Mapping[str, Any], as_json: bool) -> None:
    """Print a result: one JSON object, or a table of its entries."""
    if as_json:
        typer.echo(json.dumps(result, indent=1, default=str))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in result.items():
        text = value if isinstance(value, str | int | float) else json.dumps(value, default=str)
        table.add_row(name, f"{text:,}" if isinstance(text, int) else str(text))
    Console().print(table)


def _fail(errors: Console, error: Exception, code: int, debug: bool) -> NoReturn:
    if debug:
        errors.print_exception()
    _say(errors, str(error) or repr(error))
    raise typer.Exit(code)


def _say(errors: Console, text: str) -> None:
    line = f"headrace: {' '.join(text.split())}"
    errors.print(line, style="bold red", markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point: quiet libraries, then the command; wrong use is one line too."""
    quiet()
    # A shell starts what it puts into the background with SIGINT ignored; both end any command.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    for module in COMMANDS:
        import_module(f"dagster_project.commands.{module}").register(app)
    try:
        sys.exit(app(standalone_mode=False))
    except NoArgsIsHelpError as shown_help:
        typer.echo(shown_help.format_message())
    except UsageError as error:
        _say(Console(stderr=True), f"{error.format_message()} See `headrace --help`.")
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # what is left is short, and leaves nothing
        if "pyspark" in sys.modules:
            import_module("spark_jobs.session").end_spark()
    sys.exit(WRONG_USE)
