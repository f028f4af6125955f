"""Progress of long work: stages report here, whoever runs them decides how it is shown."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress_bar import ProgressBar
from rich.text import Text


class Reporter(Protocol):
    """Receives what a stage is doing."""

    def stage(self, text: str) -> None:
        """A stage begins."""
        ...

    def detail(self, text: str, share: float | None = None) -> None:
        """The running stage is now at `text`, this share of which is done where that is known."""
        ...

    def figures(self, text: str) -> None:
        """As `detail`, of a stage without an end: worth a line where there is no terminal."""
        ...

    def note(self, text: str) -> None:
        """What somebody should know of the running stage: it stays to be read."""
        ...


class Silent:
    """Shows nothing: for `--json` and for Dagster, which logs by itself."""

    def stage(self, text: str) -> None: ...

    def detail(self, text: str, share: float | None = None) -> None: ...

    def figures(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...


class Lines:
    """A line a stage with the seconds so far, where standard error is no terminal or a dumb one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()

    def stage(self, text: str) -> None:
        self._print(f"→ {text}")

    def detail(self, text: str, share: float | None = None) -> None: ...

    def figures(self, text: str) -> None:
        self._print(f"  {text}")

    def note(self, text: str) -> None:
        self._print(f"! {text}")

    def _print(self, text: str) -> None:
        line = f"{time.monotonic() - self._start:5.0f} s {text}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Bar(BarColumn):
    """A bar where the share that is done is known, and nothing where it is not."""

    def render(self, task: Task) -> ProgressBar | Text:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().render(task) if 0 < task.completed < 1 else Text()


class Spinner:
    """A line with spinner, detail, bar and elapsed time a stage, on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._text = ""

    def stage(self, text: str) -> None:
        self.finish()
        self._text = text
        self._task = self._progress.add_task(text, total=1)

    def detail(self, text: str, share: float | None = None) -> None:
        if self._task is not None:
            done = f" {share:.0%}" if share else ""
            self._progress.update(
                self._task,
                description=f"{self._text}: {text}{done}",
                completed=share if share and share < 1 else 0.0,
            )

    def figures(self, text: str) -> None:
        self.detail(text)

    def note(self, text: str) -> None:
        self._progress.console.print(f"! {text}", markup=False, highlight=False, soft_wrap=True)

    def finish(self) -> None:
        """The running stage is done."""
        if self._task is not None:
            self._progress.update(self._task, description=self._text, completed=1)


_reporter: ContextVar[Reporter] = ContextVar("reporter")


def reporter() -> Reporter:
    """Where the running work reports."""
    return _reporter.get(Silent())


@contextmanager
def shown(console: Console) -> Iterator[None]:
    """Show the progress of what runs inside on `console`."""
    with ExitStack() as stack:
        if console.is_terminal and not console.is_dumb_terminal:
            columns = (
                SpinnerColumn(finished_text="✓"),
                TextColumn("{task.description}", markup=False),
            )
            progress = Progress(*columns, Bar(20), TimeElapsedColumn(), console=console)
            spinner = Spinner(stack.enter_context(progress))
            stack.callback(spinner.finish)
            token = _reporter.set(spinner)
        else:
            token = _reporter.set(Lines(console))
        stack.callback(_reporter.reset, token)
        yield
