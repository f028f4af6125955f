"""What is noted of a stage is there to be read, with a terminal and without."""

import re
from io import StringIO

import pytest
from rich.console import Console

from dagster_project.progress import Spinner, reporter, shown

NOTE = "warm start: begin anew: champion: is fm, not logistic"


@pytest.mark.parametrize("terminal", [None, "xterm", "dumb"])
def test_a_note_stays_to_be_read(terminal: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", terminal or "xterm")
    console = Console(file=StringIO(), force_terminal=terminal is not None, width=200)
    with shown(console):
        reporter().stage("train logistic")
        reporter().note(NOTE)
        reporter().stage("report")
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert 1 == sum(f"! {NOTE}" in line for line in lines)


def test_a_terminal_that_cannot_go_back_is_told_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console = Console(file=StringIO(), force_terminal=True, width=200, color_system=None)
    with shown(console):
        reporter().stage("train logistic")
        reporter().detail("fit logistic", 0.5)
    assert isinstance(console.file, StringIO)
    assert re.fullmatch(r" +\d+ s → train logistic\n", console.file.getvalue())


def test_a_bar_shows_the_share_that_is_done_where_it_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=StringIO(), force_terminal=True, width=200, color_system=None)

    def last_line() -> str:
        shown_now = reporter()
        assert isinstance(shown_now, Spinner) and isinstance(console.file, StringIO)
        shown_now._progress.refresh()
        return console.file.getvalue().rsplit("\r", 1)[-1]

    with shown(console):
        reporter().stage("train logistic")
        reporter().detail("search", 1.0)
        assert "✓" not in last_line()
        reporter().detail("fit logistic", 0.5)
        half = last_line()
        reporter().detail("judge")
        judged = last_line()
    assert "train logistic: fit logistic 50% ━━━━━━━━━━  " in half
    assert "train logistic: judge " in judged and "━" not in judged
