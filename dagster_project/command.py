"""What every `headrace` command shares: its options, its errors of one line, its exit codes."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer._click.exceptions import UsageError

from dagster_project.deployment import KAFKA, Deployment
from dagster_project.progress import shown
from dagster_project.terminal import terminal
from data_contracts.clock import duration

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130

Result = Mapping[str, Any]
Present = Callable[[dict[str, Any]], None]


class JobFailed(Exception):
    """The work was done and its outcome is a failure, told in the message: exit code 1."""


@contextmanager
def wrong_use(of: str = "") -> Iterator[None]:
    """What is refused within, by ValueError, is an argument; `of` names the option."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(f"{of}{': ' if of else ''}{error}") from None


def _existing(log: Path | None) -> Path | None:
    if log is not None and not log.exists():
        raise typer.BadParameter(f"{log}: no such file or folder: give the raw log")
    return log


def checked_duration(text: str | None) -> str | None:
    """An option that is a duration, such as 30m, or not given; else wrong use."""
    with wrong_use():
        if text is not None:
            duration(text)
    return text


UseCaseOption = Annotated[
    str, typer.Option("--use-case", help="A use case's name, or the path to its folder.")
]
RootOption = Annotated[Path, typer.Option("--root", help="The lake: where all data lies.")]
KafkaOption = Annotated[
    str | None,
    typer.Option(
        "--kafka", envvar=KAFKA, help="kafka://host:port/topic, taken beside the landing log."
    ),
]
LogOption = Annotated[
    Path | None, typer.Option("--log", callback=_existing, help="The raw log: a file or a folder.")
]
StepOption = Annotated[
    str,
    typer.Option(
        "--step",
        callback=checked_duration,
        help="Simulated time after which the replay waits for the stream.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

_OPTIONS = {"log": LogOption, "step": StepOption, "kafka": KafkaOption,
            "use_case": UseCaseOption, "root": RootOption}  # fmt: skip
_FIELD = {name: name for name in _OPTIONS} | {"use_case": "reference"}
"""An option's field in Deployment, whose default is the option's."""


def command(
    work: Callable[..., Result],
    present: Present | None = None,
    of: tuple[str, ...] = ("use_case", "root"),
) -> Callable[..., None]:
    """The command of a function of a `Deployment` and of options of its own.

    `of` names the options that make the deployment; they are added, and `--json` and `--debug`.
    What the function returns is shown as `run` says. One that has a `json` itself is told.
    """
    _, *own = signature(work).parameters.values()
    told = [each for each in own if each.name == "json"]
    options = [(name, _OPTIONS[name], getattr(Deployment, _FIELD[name])) for name in of]
    options += [("json", JsonOption, False), ("debug", DebugOption, False)]

    @wraps(work)
    def asked(json: bool = False, debug: bool = False, **given: Any) -> None:
        fields = {_FIELD[name]: given.pop(name) for name in of if name in given}
        given |= {"json": json} if told else {}
        run(lambda found: work(found, **given), Deployment(**fields), json, debug, present)

    shared = [Parameter(name, Parameter.KEYWORD_ONLY, annotation=each, default=default)
              for name, each, default in options]  # fmt: skip
    its = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in own if each not in told]
    # What typer reads.
    asked.__signature__ = Signature([*its, *shared])  # pyright: ignore[reportAttributeAccessIssue]
    return asked


def run(
    work: Callable[[Deployment], Result],
    deployment: Deployment,
    as_json: bool,
    debug: bool,
    present: Present | None = None,
) -> None:
    """Run `work` with progress on standard error and its result on standard output.

    `present` shows the result to people in place of a plain table. Of a simulated use case the
    first line, or an entry of the JSON, says that it is. One that names `problems` is shown, and is
    a failure.
    """
    errors = terminal(stderr=True)
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
                terminal().print(f"{deployment.use_case.title}: of no real user or item")
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
    except UsageError:
        raise
    except Exception as error:
        _fail(errors, error, FAILED, debug)


def show(result: Result, as_json: bool) -> None:
    """Print a result: one JSON object, or its entries a line, none cut: an address may be long."""
    if as_json:
        typer.echo(json.dumps(result, indent=1, default=str))
        return
    width = max(map(len, result), default=0)
    for name, value in result.items():
        text = value if isinstance(value, str | int | float) else json.dumps(value, default=str)
        told = f"{text:,}" if isinstance(text, int) else str(text)
        terminal().print(f"{name:<{width}}  {told}", soft_wrap=True)


def _fail(errors: Console, error: Exception, code: int, debug: bool) -> NoReturn:
    if debug:
        errors.print_exception()
    say(errors, str(error) or repr(error))
    raise typer.Exit(code)


def say(errors: Console, text: str) -> None:
    """Print one line on `errors`, whatever `text` holds."""
    line = f"headrace: {' '.join(text.split())}"
    errors.print(line, style="bold red", highlight=False, soft_wrap=True)
