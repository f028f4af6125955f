"""The `headrace` command: its parts, and how it ends."""

import sys
from importlib import import_module

import typer
from typer._click.exceptions import NoArgsIsHelpError, UsageError

from dagster_project.command import INTERRUPTED, WRONG_USE, say
from dagster_project.interrupts import hear, ignore
from dagster_project.quiet import quiet
from dagster_project.terminal import terminal

app = typer.Typer(
    name="headrace",
    help="From an event log to a served, watched and retrained model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

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


def main() -> None:
    """Entry point: quiet libraries, then the command; wrong use is one line too."""
    quiet()
    hear()
    try:
        for module in COMMANDS:
            import_module(f"dagster_project.commands.{module}").register(app)
        sys.exit(app(standalone_mode=False))
    except NoArgsIsHelpError as shown_help:
        typer.echo(shown_help.format_message())
    except UsageError as error:
        say(terminal(stderr=True), f"{error.format_message()} See `headrace --help`.")
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    finally:
        ignore()
        if "pyspark" in sys.modules:
            import_module("spark_jobs.session").end_spark()
    sys.exit(WRONG_USE)
