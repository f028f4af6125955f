"""Moves through MLflow's registry and the ledger: gates, overrides, faults."""

import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from data_contracts.gate_rules import Rule, RuleInForce
from data_contracts.gates import Decision, made
from data_contracts.lake import Lake
from data_contracts.moves import Moves
from data_contracts.override import Override
from data_contracts.rollout import Rollout
from data_contracts.stages import MoveRefused
from tests.decisions import answered
from tests.integration.moved import (
    ADA,
    AFTER,
    CLICKS,
    NAME,
    copy_of,
    moves_of,
    registered,
)
from training.registry import Registry

STAGED = replace(
    CLICKS, declared=replace(CLICKS.declared, rollout=Rollout(unit="user_id", staged=True))
)
OFFLINE = RuleInForce("golden rows", "offline")


@pytest.fixture
def lake(first: Lake, tmp_path: Path) -> Lake:
    return copy_of(first, tmp_path / "lake")


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


def test_a_user_without_a_name_looks_and_moves_under_a_number(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container: `getuser` asks these variables, then for the name of the uid."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    moves = Moves(Registry(lake), lake, CLICKS)
    assert [] == moves.verify()
    assert f"uid {os.getuid()}" == moves.promote("2", "champion").actor


def test_a_version_that_failed_its_gate_moves_only_by_an_override(lake: Lake) -> None:
    moves = moves_of(lake)
    with pytest.raises(MoveRefused, match=r"version 3: its gates .* latency p99 \(fail\)"):
        moves.promote("3", "shadow")
    moves.promote("3", "shadow", ADA)
    assert "3" == Registry(lake).aliases(NAME)["shadow"]
    assert [] == moves.verify()


def test_what_was_judged_against_another_champion_is_refused(lake: Lake) -> None:
    moves = moves_of(lake)
    late = registered(lake, answered("1"))
    moves.promote("2", "champion")
    with pytest.raises(MoveRefused, match="judged against 1, the champion is 2 now"):
        moves.promote(late, "champion")
    with pytest.raises(MoveRefused, match="judged against 1, the champion is 2 now"):
        moves.promote(late, "champion", decision=answered("1", "canary").as_dict())
    moves.promote(late, "champion", decision=answered("2", "canary").as_dict())
    assert late == Registry(lake).aliases(NAME)["champion"]


def test_a_decision_that_was_edited_in_the_registry_carries_no_move(lake: Lake) -> None:
    edited = answered("1", latency=90.0).as_dict()
    edited |= {"verdict": "pass", "promotes": True}
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    client.set_model_version_tag(NAME, "3", "decision", json.dumps(edited))
    with pytest.raises(
        MoveRefused, match="has no decision of its bundle that its evidence leads to"
    ):
        moves_of(lake).promote("3", "shadow")


def test_a_failed_check_that_was_cut_out_of_a_decision_is_missed(lake: Lake) -> None:
    cut = answered("1", without=["latency p99"]).as_dict()
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    client.set_model_version_tag(NAME, "3", "decision", json.dumps(cut))
    told = "version 3: its decision lacks what the use case requires: latency p99: train again"
    with pytest.raises(MoveRefused, match=told):
        moves_of(lake).promote("3", "champion")
    moves_of(lake).promote("3", "champion", ADA)
    assert [] == moves_of(lake).verify()


def test_a_decision_of_another_bundle_carries_no_move(lake: Lake) -> None:
    passed = json.dumps(Registry(lake).decided(NAME, "2"))
    other = registered(lake, answered("1", latency=90.0), digest="cd34")
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    client.set_model_version_tag(NAME, other, "decision", passed)
    with pytest.raises(MoveRefused, match=f"version {other}: has no decision of its bundle"):
        moves_of(lake).promote(other, "champion")
    row = moves_of(lake).promote(other, "champion", ADA)
    assert row.said["decision"] is None
    moves_of(lake).demote(other, ADA)
    assert [] == moves_of(lake).verify()
    stripped = {name: each for name, each in json.loads(passed).items() if name != "bundle"}
    client.set_model_version_tag(NAME, other, "decision", json.dumps({**stripped, "rival": "1"}))
    with pytest.raises(MoveRefused, match=f"version {other}: its decision names no bundle"):
        moves_of(lake).promote(other, "champion")


def test_a_version_without_its_bundle_s_digest_is_told_beside_the_rest(lake: Lake) -> None:
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    client.delete_model_version_tag(NAME, "1", "bundle_sha256")
    client.set_registered_model_alias(NAME, "champion", "3")
    bundle, alias = moves_of(lake).verify()
    assert "row 1: version 1 has no bundle now" == bundle
    assert "alias champion is 3, the ledger says 1" in alias


def test_a_fact_that_was_written_in_place_of_a_statistic_answers_no_rule(lake: Lake) -> None:
    real = answered("1").checks
    fact = {"holds": True, "value": "so", "limit": "so", "n": 1}
    checks = [replace(made(OFFLINE, check.name, "fact", fact), level=check.level) for check in real]
    lacking = [each.name for each in real if each.counts and each.kind != "fact"]
    forged = registered(lake, Decision("forged", tuple(checks), "1"))
    told = f"the use case requires: {', '.join(lacking)}: train again"
    with pytest.raises(MoveRefused, match=told):
        moves_of(lake).promote(forged, "champion")
    assert ["definitions", "latency p99"] == lacking[:2]


@pytest.mark.parametrize("check", ["better than constant", "better than logistic"])
def test_the_logistic_baseline_stands_for_itself_alone(lake: Lake, check: str) -> None:
    own = made(RuleInForce(check, "offline"), check, "itself", {"n": 900})
    others = answered("1", without=[check]).checks
    version = registered(lake, Decision("own", (*others, own), "1"))
    if check == "better than logistic":
        moves_of(lake).promote(version, "champion")
        return
    with pytest.raises(MoveRefused, match="the use case requires: better than constant: train"):
        moves_of(lake).promote(version, "champion")


@pytest.mark.parametrize(
    "changed",
    [
        Rule("calibration", "offline", limit=1.25),
        Rule("better than constant", "offline", margin=0.001),
        Rule("better than constant", "offline", margin=0.003, least=5_000),
        Rule("latency p99", "offline", limit=10.0),
        Rule("worst slice", "offline"),
    ],
    ids=lambda rule: rule.check,
)
def test_a_decision_made_by_weaker_rules_than_those_in_force_is_refused(
    lake: Lake, changed: Rule
) -> None:
    version = registered(lake, answered("1"))
    own = [rule for rule in CLICKS.declared.gates.changed if rule.check != changed.check]
    gates = replace(CLICKS.declared.gates, changed=(*own, changed))
    stricter = replace(CLICKS, declared=replace(CLICKS.declared, gates=gates))
    with pytest.raises(MoveRefused, match=f"the use case requires: {changed.check}: train"):
        Moves(Registry(lake), lake, stricter, "ada").promote(version, "champion")
    moves_of(lake).promote(version, "champion")


def test_staged_releases_take_held_out_rows_for_the_shadow_alone(lake: Lake) -> None:
    moves = Moves(Registry(lake), lake, STAGED, "ada")
    for stage, evidence in (("canary", "shadow"), ("champion", "canary")):
        told = f"are staged: {stage} needs what its {evidence} decided: `headrace rollout start 2`"
        with pytest.raises(MoveRefused, match=told):
            moves.promote("2", stage)
    moves.promote("2", "shadow")
    with pytest.raises(MoveRefused, match="releases are staged: canary needs"):
        moves.promote("2")
    shadow = answered("1", "shadow")
    moves.promote("2", "canary", decision=shadow.as_dict())
    with pytest.raises(MoveRefused, match="requires: errors, latency p99, score shift, sample ra"):
        moves.promote("2", "champion", decision=shadow.as_dict())
    with pytest.raises(MoveRefused, match=r"requires: CTR: train again"):
        moves.promote("2", "champion", decision=harmless().as_dict())
    moves.promote("2", "champion", decision=answered("1", "canary").as_dict())
    assert AFTER == Registry(lake).aliases(NAME)
    assert [] == moves.verify()


def harmless() -> Decision:
    """Of a canary before its last share, which shows no harm so far and nothing more."""
    found = answered("1", "canary", without=["CTR"])
    rule = next(r for r in CLICKS.declared.gates.rules if r.check == "CTR")
    passed = answered("1", "canary").checks[-1]
    evidence = {"kind": passed.kind, "evidence": passed.evidence}
    so_far = made(rule, "CTR so far", "no harm", evidence)
    return Decision("canary", (*found.checks, so_far), "1")


def test_an_override_moves_a_staged_version_and_a_first_one_needs_none(
    lake: Lake, tmp_path: Path
) -> None:
    Moves(Registry(lake), lake, STAGED, "ada").promote("2", "champion", ADA)
    assert AFTER == Registry(lake).aliases(NAME)
    empty = Lake(tmp_path / "empty", NAME)
    registered(empty, answered(without=["better than champion"]))
    Moves(Registry(empty), empty, STAGED, "ada").promote("1", "champion")
    assert {"champion": "1"} == Registry(empty).aliases(NAME)


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


def test_an_override_without_a_name_or_a_reason_is_none() -> None:
    with pytest.raises(ValueError, match="override: no reason"):
        Override("ada", " ")
