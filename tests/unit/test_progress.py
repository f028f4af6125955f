"""What is noted of a stage is there to be read, with a terminal and without."""

from io import StringIO

import pytest
from rich.console import Console

from dagster_project.progress import reporter, shown

NOTE = "warm start: begin anew: champion: is fm, not logistic"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_note_stays_to_be_read(terminal: bool) -> None:
    console = Console(file=StringIO(), force_terminal=terminal, width=200)
    with shown(console):
        reporter().stage("train logistic")
        reporter().note(NOTE)
        reporter().detail("fit logistic 50%")
        reporter().stage("report")
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert 1 == sum(f"! {NOTE}" in line for line in lines)
