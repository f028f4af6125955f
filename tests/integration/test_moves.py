"""Moves through MLflow's registry and the ledger: gates, overrides, crashes, two writers."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest
from mlflow import MlflowClient

from data_contracts.gate_rules import Rule
from data_contracts.gates import Decision, limit_check
from data_contracts.lake import Lake
from data_contracts.ledger import open_intent
from data_contracts.moves import Moves, Override
from data_contracts.stages import MoveRefused
from tests.integration.dying_mover import STEPS
from training.registry import Registry

NAME = "clicks"
BEFORE = {"challenger": "2", "champion": "1"}
AFTER = {"champion": "2", "previous_champion": "1"}
ADA = Override("ada", "the sale begins")
ROOT = Path(__file__).parents[2]


def judged(title: str, latency: float = 1.0) -> Decision:
    rule = Rule("latency p99", "offline")
    return Decision(title, (limit_check(rule, rule.check, latency, 5.0, 21, " ms"),))


def registered(lake: Lake, decision: Decision) -> str:
    """The number of a version whose bundle nobody opens."""
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    found = client.get_experiment_by_name(NAME)
    files = lake.mlflow_artifacts.as_uri()
    home = found.experiment_id if found else client.create_experiment(NAME, files)
    run = client.create_run(home, run_name="logistic")
    return Registry(lake).register(NAME, run.info.run_id, "ab12", decision)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Version 1 is champion, 2 a challenger that may follow it, 3 one that failed a gate."""
    lake = Lake(tmp_path_factory.mktemp("registry") / "lake", NAME)
    moves = Moves(Registry(lake), lake, NAME, "headrace train")
    registered(lake, judged("first version"))
    moves.promote("1", "champion")
    registered(lake, judged("against champion 1"))
    registered(lake, judged("against champion 1", latency=9.0))
    moves.promote("3", "challenger")
    moves.promote("2", "challenger")
    return lake


@pytest.fixture
def lake(first: Lake, tmp_path: Path) -> Lake:
    copytree(first.root, tmp_path / "lake")
    return Lake(tmp_path / "lake", NAME)


@pytest.fixture(scope="module")
def mover(first: Lake) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.integration.dying_mover", str(first.root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()
        assert 0 == process.wait(60)


def asked(mover: subprocess.Popen[str], what: str) -> str:
    """What the mover answers."""
    assert mover.stdin and mover.stdout
    mover.stdin.write(f"{what}\n")
    mover.stdin.flush()
    return mover.stdout.readline().strip()


def moves_of(lake: Lake) -> Moves:
    return Moves(Registry(lake), lake, NAME, "ada")


def test_a_passed_gate_leads_to_champion_and_a_demotion_back(lake: Lake) -> None:
    moves, registry = moves_of(lake), Registry(lake)
    row = moves.promote("2", "champion")
    assert {"champion": "2", "previous_champion": "1"} == registry.aliases(NAME)
    assert row.said["decision"] == registry.decided(NAME, "2")
    moves.demote("2", ADA)
    assert {"champion": "1"} == registry.aliases(NAME)
    assert [] == moves.verify()
    said = [row.said for row in moves.history() if row.kind == "intent"][-1]
    assert ("demote", {"name": "ada", "reason": "the sale begins"}) == (
        said["action"],
        said["override"],
    )


def test_a_version_that_failed_its_gate_moves_only_by_an_override(lake: Lake) -> None:
    moves = moves_of(lake)
    with pytest.raises(MoveRefused, match=r"version 3: its gates .* latency p99 \(fail\)"):
        moves.promote("3", "shadow")
    moves.promote("3", "shadow", ADA)
    assert "3" == Registry(lake).aliases(NAME)["shadow"]
    assert [] == moves.verify()


def test_what_was_judged_against_another_champion_is_refused(lake: Lake) -> None:
    moves = moves_of(lake)
    late = registered(lake, judged("against champion 1"))
    moves.promote("2", "champion")
    with pytest.raises(MoveRefused, match="judged against 1, the champion is 2 now"):
        moves.promote(late, "champion")
    moves.promote(late, "champion", decision=judged("canary of release 7").as_dict())
    assert late == Registry(lake).aliases(NAME)["champion"]


def test_a_decision_that_was_edited_in_the_registry_carries_no_move(lake: Lake) -> None:
    edited = judged("against champion 1", latency=9.0).as_dict()
    edited |= {"verdict": "pass", "promotes": True}
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    client.set_model_version_tag(NAME, "3", "decision", json.dumps(edited))
    with pytest.raises(MoveRefused, match="has no decision that its evidence leads to"):
        moves_of(lake).promote("3", "shadow")


def test_without_a_stage_a_version_takes_the_next_one(lake: Lake) -> None:
    moves = moves_of(lake)
    assert ["shadow", "canary", "champion"] == [moves.promote("2").said["to"] for _ in range(3)]


def test_an_alias_that_was_moved_beside_the_ledger_is_told_and_stops_moves(lake: Lake) -> None:
    moves = moves_of(lake)
    MlflowClient(lake.mlflow_uri, lake.mlflow_uri).set_registered_model_alias(NAME, "champion", "3")
    told = "alias champion is 3, the ledger says 1"
    assert told in moves.verify()[0]
    with pytest.raises(MoveRefused, match=told):
        moves.promote("2", "champion")


def test_a_lost_or_edited_ledger_is_told_and_stops_moves(lake: Lake) -> None:
    moves = moves_of(lake)
    connection = sqlite3.connect(lake.ledger)
    connection.executescript(
        "DROP TRIGGER moves_stay; UPDATE moves SET actor = 'eve' WHERE seq = 3"
    )
    connection.close()
    assert "row 3: was edited: its hash is of another content" == moves.verify()[0]
    with pytest.raises(MoveRefused, match="its ledger is damaged: row 3: was edited"):
        moves.promote("2", "champion")
    lake.ledger.unlink()
    assert "the tail is cut" in moves.verify()[0]
    with pytest.raises(MoveRefused, match="its ledger is damaged: the tail is cut"):
        moves.promote("2", "champion")


def test_a_version_that_was_given_another_bundle_is_found(lake: Lake) -> None:
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    client.set_model_version_tag(NAME, "1", "bundle_sha256", "0123")
    assert ["row 1: version 1 has another bundle now"] == moves_of(lake).verify()


def test_a_move_killed_anywhere_is_made_whole_at_the_next_start(
    first: Lake, mover: subprocess.Popen[str]
) -> None:
    opened: list[int] = []
    for step in range(len(STEPS) + 1):
        dead = Lake(Path(asked(mover, f"{step} kill")), NAME)
        moves = moves_of(dead)
        assert [] == moves.verify()
        if open_intent(moves.history()):
            opened.append(step)
        assert (step in opened) == moves.recover()
        assert (AFTER if step else BEFORE) == Registry(dead).aliases(NAME)
        assert open_intent(moves.history()) is None
        assert [] == moves.verify()
    assert [1, 2, 3, 4, 5] == opened


def test_of_two_writers_at_once_one_moves_and_the_other_is_told(
    first: Lake, mover: subprocess.Popen[str]
) -> None:
    held = Lake(Path(asked(mover, f"{STEPS.index('set_alias') + 1} stop")), NAME)
    moves = moves_of(held)
    for move in (lambda: moves.promote("3", "champion", ADA), moves.recover):
        with pytest.raises(MoveRefused, match="another process is moving it: try again"):
            move()
    assert [] == moves.verify()
    assert "done" == asked(mover, "go on")
    assert AFTER == Registry(held).aliases(NAME)
    assert [] == moves.verify()


def test_an_override_without_a_name_or_a_reason_is_none() -> None:
    with pytest.raises(ValueError, match="override: no reason"):
        Override("ada", " ")
