"""`headrace models …` over two real bundles in a registry."""

import json
import sqlite3
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import typer
from mlflow import MlflowClient
from typer.testing import CliRunner

from dagster_project.commands.models import register
from data_contracts.lake import Lake
from data_contracts.moves import Moves
from data_contracts.use_case import load_use_case
from tests.decisions import answered
from tests.integration.world import export
from training.registry import Registry

NAME = "clicks"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Version 1 is champion; 2, judged too slow, the challenger."""
    home = tmp_path_factory.mktemp("models")
    lake = Lake(home / "lake", NAME)
    registry = Registry(lake)
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    use_case = load_use_case(NAME)
    manifest = export(use_case, home / "bundle")
    experiment = client.create_experiment(NAME, lake.mlflow_artifacts.as_uri())
    moves = Moves(registry, lake, use_case, "headrace train")
    for rival, latency, stage in ((None, 1.0, "champion"), ("1", 90.0, "challenger")):
        tags = {"dataset_digest": f"of {stage}", "continued_from": "none" if latency == 1 else "1"}
        run = client.create_run(experiment, run_name="logistic", tags=tags)
        client.log_artifacts(run.info.run_id, str(home / "bundle"), "bundle")
        decision = answered(rival, latency=latency)
        version = registry.register(NAME, run.info.run_id, manifest.digest(), decision)
        moves.promote(version, stage)
    return lake


@pytest.fixture
def lake(first: Lake, tmp_path: Path) -> Lake:
    copytree(first.root, tmp_path / "lake")
    return Lake(tmp_path / "lake", NAME)


def asked(lake: Lake, *arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, ["models", *arguments, "--root", str(lake.root)])
    return done.exit_code, done.output


def told(lake: Lake, *arguments: str) -> dict[str, Any]:
    code, output = asked(lake, *arguments, "--json")
    assert 0 == code, output
    return json.loads(output)


def test_versions_are_listed_with_their_aliases_newest_first(lake: Lake) -> None:
    listed = told(lake, "list")["versions"]
    found = [(each["version"], each["aliases"], each["verdict"]) for each in listed]
    assert [("2", ["challenger"], "fail"), ("1", ["champion"], "pass")] == found
    assert "challenger" in asked(lake, "list")[1]


def test_a_version_is_shown_with_its_gates_and_moves(lake: Lake) -> None:
    shown = told(lake, "show", "2")
    assert "fail" == shown["decision"]["verdict"]
    assert ["challenger"] == [move["to"] for move in shown["moves"]]
    printed = asked(lake, "show", "2")[1].splitlines()
    assert any("latency p99" in line for line in printed)
    assert ["continued_from 1"] == [line for line in printed if line.startswith("continued")]
    assert ("none", "1") == (told(lake, "show", "1")["continued_from"], shown["continued_from"])
    code, output = asked(lake, "show", "7")
    assert (1, True) == (code, "version 7: is not registered; versions are 1, 2" in output)


def test_versions_that_were_tested_on_other_rows_are_said_not_to_compare(lake: Lake) -> None:
    compared = told(lake, "compare", "1", "2")
    assert (False, []) == (compared["same_test_rows"], compared["features_that_differ"])
    assert "OTHER: the figures do not compare" in asked(lake, "compare", "1", "2")[1]


def test_a_version_is_promoted_by_an_override_and_taken_back(lake: Lake) -> None:
    code, output = asked(lake, "promote", "2")
    assert (1, 1) == (code, len(output.strip().splitlines()))
    assert "its gates do not allow it: latency p99 (fail)" in output
    assert 2 == asked(lake, "promote", "2", "--by", "ada")[0]
    answered_for = ("--by", "ada", "--reason", "the sale begins")
    code, output = asked(lake, "promote", "2", "--from", "none", *answered_for)
    assert (1, True) == (code, "its stage is challenger by now, and was none when" in output)
    assert "shadow" == told(lake, "promote", "2", *answered_for)["to"]
    told(lake, "promote", "2", "--to", "champion", *answered_for)
    assert {"champion": "1"} == told(lake, "demote", "2", *answered_for)["after"]
    moves = told(lake, "history")["moves"]
    assert ["champion", "challenger", "shadow", "champion", None] == [each["to"] for each in moves]
    assert {"rows": 10, "faults": [], "deleted": []} == told(lake, "verify")
    assert {"name": "ada", "reason": "the sale begins"} == moves[-1]["override"]
    assert "demote" in asked(lake, "history")[1]


def test_the_rows_of_a_deleted_version_are_told_and_the_others_verified(lake: Lake) -> None:
    answered_for = ("--by", "ada", "--reason", "the sale begins")
    told(lake, "demote", "2", *answered_for)
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    client.delete_model_version(NAME, "2")
    lines = [f"row {seq}: version 2 was deleted: its bundle is not compared" for seq in (3, 5)]
    assert {"rows": 6, "faults": [], "deleted": lines} == told(lake, "verify")
    client.set_model_version_tag(NAME, "1", "bundle_sha256", "0123")
    code, output = asked(lake, "verify")
    assert (1, True) == (code, "row 1: version 1 has another bundle now; row 3: vers" in output)


def test_a_ledger_that_is_not_sound_fails_by_row(lake: Lake) -> None:
    connection = sqlite3.connect(lake.ledger)
    connection.executescript("DROP TRIGGER moves_remain; DELETE FROM moves WHERE seq = 2")
    connection.close()
    code, output = asked(lake, "verify")
    assert (1, True) == (code, "row 2: is missing" in output)
