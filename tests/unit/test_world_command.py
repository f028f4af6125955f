import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dagster_project.commands.world import register


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    register(app)
    # With a second command the first one keeps its name.
    app.command()(lambda: None)
    return app


def test_the_number_of_records_may_be_told_in_thousands(app: typer.Typer, tmp_path: Path) -> None:
    said = [
        CliRunner().invoke(
            app, ["world", "--events", text, "--out", str(tmp_path / text), "--json"]
        )
        for text in ("2000", "2k")
    ]
    made = [json.loads(each.stdout) for each in said]
    assert made[0]["records"] == made[1]["records"]
    assert made[0]["truth"] == made[1]["truth"]


@pytest.mark.parametrize("text", ["1.5k", "-1", "k", "2b", "٣", "1e6"])
def test_another_text_is_refused_by_name(app: typer.Typer, tmp_path: Path, text: str) -> None:
    said = CliRunner().invoke(app, ["world", "--events", text, "--out", str(tmp_path / "out")])
    assert 2 == said.exit_code and "200k" in said.stderr
    assert not (tmp_path / "out").exists()
