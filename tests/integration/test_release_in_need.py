"""A release whose disk is full, whose outcomes cannot be read, whose registry is away, or that is
asked for what cannot be done."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from data_contracts.clock import SystemClock, format_time
from data_contracts.ledger import INTENT
from data_contracts.moves import Moves
from data_contracts.override import Override
from data_contracts.release import Evidence
from data_contracts.rollout import Plan, held
from data_contracts.rollout_store import Report
from data_contracts.sequences import Split
from data_contracts.tally import Tally
from serving.registry import Registry
from tests.integration.releases import BUSY, Release, register_version, registry_away
from tests.integration.test_rollout import ENOUGH
from tests.integration.world import export
from tests.unit.test_landing_log import files_of_at_most


def test_a_full_disk_is_not_the_candidate_s_fault_and_nothing_is_judged_by_it(
    release: Release,
) -> None:
    assert "epoch" in release.ask("start", "2")
    shadow = release.replica.predictor.shadow
    with files_of_at_most(0):
        assert 200 == release.predict("u1", "unlogged").status_code
        release.client.run(shadow.close())
    assert (0, 1) == (shadow.scored, shadow.dropped)
    assert "closed" == release.replica.status()["breaker"]
    release.settle()
    assert "not judgeable: the prediction log takes no record" in release.ask("advance")
    assert "not judgeable" in release.controller.waits
    assert "not judgeable" in release.store.looks(2)[-1]["waits"]
    assert 200 == release.predict("u1", "logged").status_code
    release.client.run(shadow.close())
    release.settle()
    assert "not judgeable" not in release.controller.waits
    assert ("shadow", 1, 1) == (release.plan.stage, shadow.scored, shadow.dropped)
    title = release.store.looks(2)[-1]["decision"]["stage"]
    assert title.endswith(", without 1 h whose records were lost")


def test_without_its_outcomes_a_canary_answers_nobody_until_they_are_back(
    release: Release,
) -> None:
    release.canary(100)
    unit, arms = release.unit(100), release.replica.predictor.arms
    assert "2" == release.predict(unit, "seen").json()["version"]
    release.unreadable = OSError("a parquet file is gone")
    release.settle()
    # As the lease that was renewed before runs out.
    arms.exposure.renewed = float("-inf")
    release.settle()
    assert "1" == release.predict(unit, "blind").json()["version"]
    assert "not exposed" == release.records()[-1]["fallback"]
    assert ("canary", True) == (release.plan.stage, release.controller.leads)
    told = "outcomes (cannot judge: they cannot be read (OSError)"
    assert told in release.controller.waits
    assert "the candidate is not exposed" in release.store.ends(2)[-1]["waits"]
    assert told in release.ask("advance")
    another = release.another("two", look=release._look)
    exposed = release.store.exposure()
    assert another.tick() is not None and another.tick() is not None
    assert exposed == release.store.exposure(), "one that takes over sees no more"
    release.unreadable = None
    assert another.tick() is not None and another.tick() is not None
    release.client.run(arms.look())
    assert "2" == release.predict(unit, "back").json()["version"]


def test_without_its_outcomes_a_release_is_still_judged_by_what_replicas_counted(
    release: Release,
) -> None:
    release.canary(100)
    release.unreadable = OSError("a parquet file is gone")
    os.kill(release.candidate_pid, signal.SIGKILL)
    assert "1" == release.predict(release.unit(100), "after").json()["version"]
    release.settle()
    assert ("steady", True) == (release.plan.stage, "-9" in release.plan.reason)
    assert {"2"} == release.store.barred().keys()


def test_a_request_that_fails_keeps_no_other_from_its_answer(release: Release) -> None:
    release.canary(100)
    for beat in (1, 2):
        # Nothing that the controller knows of, so that it cannot say whether there is room.
        odd = {"epoch": 1, "broken": {}, "tallies": {}}
        release.store.report(Report("odd", "boot", beat, odd))
        release.controller._replicas.hear(release.store.reports())
    for action in ("advance", "hold"):
        release.store.ask("now", "ada", action, None, "a test", False)
    with pytest.raises(KeyError):
        release.controller.tick()
    *_, advance, hold = release.store.requests()
    assert "refused: KeyError: 'log_refuses'" == advance.answer
    assert f"epoch {release.plan.epoch}" == hold.answer and release.plan.held
    for action in ("advance", "abort"):
        release.store.ask("now", "ada", action, None, "a test", True)
    release.controller.tick()
    *_, advance, abort = release.store.requests()
    assert f"epoch {release.plan.epoch}" == abort.answer and "steady" == release.plan.stage
    assert "no release is under way" in str(advance.answer)


def test_a_start_that_nobody_answers_for_keeps_no_other_from_its_release(
    release: Release,
) -> None:
    release.store.ask("now", "ada", "start", "2", " ", True)
    assert "epoch" in release.ask("start", "2")
    assert "refused: override: no reason" in str(release.store.requests()[-2].answer)


def test_a_ledger_that_cannot_be_read_keeps_no_one_from_taking_a_candidate_out(
    release: Release,
) -> None:
    release.canary(100)
    release.lake.ledger.write_bytes(b"no database" * 1_000)
    assert "epoch" in release.ask("abort")
    assert ("steady", "", {"2"}) == (
        release.plan.stage, release.plan.ledger_head, release.store.barred().keys()
    )  # fmt: skip


def test_a_version_that_is_not_registered_keeps_no_other_from_its_release(
    release: Release,
) -> None:
    release.settle()
    release.store.ask("now", "ada", "start", "999", "a test", False)
    assert "epoch" in release.ask("start", "2")
    refused = release.store.requests()[0].answer
    assert "refused: model clicks version 999: is not registered" == refused


def test_a_version_whose_decision_was_damaged_keeps_no_other_from_its_release(
    release: Release,
) -> None:
    release.settle()
    uri = release.lake.mlflow_uri
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.set_model_version_tag("clicks", "2", "decision", '{"verdict": "pass"')
    release.store.ask("now", "ada", "start", "2", "a test", False)
    assert "version 999: is not registered" in release.ask("start", "999")
    refused = str(release.store.requests()[0].answer)
    assert "refused: model clicks version 2: its tag decision is no JSON" in refused


def test_whoever_asks_twice_for_the_next_step_goes_one_step_on(release: Release) -> None:
    release.canary(100)
    for _ in range(2):
        now = format_time(SystemClock().now())
        release.store.ask(now, "ada", "advance", None, "nobody answers", True)
    release.settle()
    *_, first, second = release.store.requests()
    assert (f"epoch {release.plan.epoch}", 500) == (first.answer, release.plan.canary_bps)
    assert "leads to another step than there was when it was asked" in str(second.answer)
    now = format_time(SystemClock().now())
    for action in ("hold", "advance"):
        release.store.ask(now, "ada", action, None, "a hold is no step", True)
    release.settle()
    assert 2_500 == release.plan.canary_bps


@pytest.mark.parametrize(
    ("action", "answer"), [("abort", "epoch 5"), ("advance", "plan 4 does not follow the last one")]
)
def test_who_takes_a_version_out_is_refused_for_no_plan_that_came_between(
    release: Release, monkeypatch: pytest.MonkeyPatch, action: str, answer: str
) -> None:
    release.canary(100)
    add = release.store.add

    def overtaken(plan: Plan, *said: Any) -> Plan:
        monkeypatch.undo()
        add(held(release.plan, True))
        return add(plan, *said)

    monkeypatch.setattr(release.store, "add", overtaken)
    assert answer in release.ask(action, override=True)


def test_a_rollback_waits_for_no_registry_and_returns_to_the_champion_that_was_served(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = list[str]()
    release.canary(5_000)
    moved = Moves(Registry(release.lake), release.lake, release.world.use_case).history()
    with registry_away(release.lake):
        for action in ("advance", "rollback"):
            release.store.ask("now", "ada", action, None, "a test", True)
        with monkeypatch.context() as noted:
            for name in ("aliases", "version", "decided", "stamp", "download", "standing"):
                noted.setattr(Registry, name, lambda *_, name=name: called.append(name))
            release.controller.tick()
    assert [] == called
    champions = [plan.champion.version for plan in release.store.plans()[-3:]]
    assert ["1", "2", "1"] == champions
    release.settle()
    assert {"champion": "1"} == Registry(release.lake).aliases("clicks")
    assert "is barred" in release.ask("start", "2")
    moves = Moves(Registry(release.lake), release.lake, release.world.use_case)
    assert [] == moves.verify() and moved == moves.history()[: len(moved)]


def test_a_move_that_the_registry_missed_carries_what_led_to_it(release: Release) -> None:
    assert "epoch" in release.ask("start", "2")
    with registry_away(release.lake):
        for action, overrides in (("advance", True), ("hold", False), ("resume", False)):
            release.store.ask("now", "ada", action, None, f"to {action}", overrides)
        release.controller.tick()
    assert [None, None] == [plan.override for plan in release.store.plans()[-2:]]
    release.settle()
    assert {"champion": "1", "canary": "2"} == Registry(release.lake).aliases("clicks")
    moves = Moves(Registry(release.lake), release.lake, release.world.use_case)
    row = [row.said for row in moves.history() if row.kind == INTENT][-1]
    assert ("canary", {"name": "ada", "reason": "to advance"}) == (row["to"], row["override"])


@pytest.mark.full
@pytest.mark.faults
def test_while_mlflow_is_away_a_bad_candidate_is_out_and_stays_out_when_it_is_back(
    release: Release,
) -> None:
    release.canary(100)
    unit = release.unit(100)
    with registry_away(release.lake):
        os.kill(release.candidate_pid, signal.SIGKILL)
        assert "1" == release.predict(unit, "after").json()["version"]
        release.settle()
        assert "steady" == release.plan.stage
        assert "the registry cannot be followed" in release.controller.waits
    release.settle()
    assert {"champion": "1"} == Registry(release.lake).aliases("clicks")
    assert "1" == release.predict(unit, "later").json()["version"]
    assert [] == Moves(Registry(release.lake), release.lake, release.world.use_case).verify()


def test_a_move_beside_a_plan_that_is_being_written_is_taken_back(release: Release) -> None:
    assert "epoch" in release.ask("start", "2")
    moves = Moves(Registry(release.lake), release.lake, release.world.use_case)
    moves.promote("2", "canary", Override("ada", "by hand"))
    release.store.ask("now", "ada", "hold", None, "a test", False)
    release.controller.tick()
    release.controller.align()
    assert {"champion": "1", "shadow": "2"} == Registry(release.lake).aliases("clicks")
    assert ("", True) == (release.controller._refused, release.plan.held)
    assert [] == moves.verify()


def test_a_displaced_champion_that_is_moved_by_hand_beside_a_plan_is_taken_back(
    release: Release, tmp_path: Path
) -> None:
    """What displaced it were gates that passed: no decision to take it back by."""
    release.canary(5_000)
    tally = Tally()
    for _ in range(2_000):
        tally.answered(5.0, 1, 0.1)
    splits = (Split(0.5, 5_000, 10_000),)
    release.evidence = Evidence(ENOUGH, ENOUGH, splits, tally, tally)
    while release.plan.champion.version == "1":
        release.settle()
    assert release.plan.decision is not None and release.plan.override is None
    release.evidence = Evidence()
    folder = tmp_path / "export3"
    register_version(release.world, folder, export(release.world.use_case, folder, seed=5))
    assert "epoch" in release.ask("start", "3", override=True)
    release.store.ask("now", "ada", "hold", None, "a test", False)
    release.controller.tick()
    moves = Moves(Registry(release.lake), release.lake, release.world.use_case)
    moves.promote("1", "canary", Override("ada", "by hand"))
    release.controller.align()
    assert {"champion": "2", "shadow": "3"} == Registry(release.lake).aliases("clicks")
    assert ("", True) == (release.controller._refused, release.plan.held)
    assert [] == moves.verify()


def test_why_aliases_and_plan_are_not_brought_together_is_told_once(
    release: Release, caplog: pytest.LogCaptureFixture
) -> None:
    assert "epoch" in release.ask("start", "2")
    name, lake = release.world.use_case.name, release.lake
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    head = client.get_registered_model(name).tags["ledger_head"]
    told = list[int]()
    for stamp in ("cut", head, "cut"):
        client.set_registered_model_tag(name, "ledger_head", stamp)
        for _ in range(3):
            release.controller.align()
        told.append(sum("are not aligned" in each.message for each in caplog.records))
    assert [1, 1, 2] == told


def test_on_a_busy_replica_a_canary_grows_only_if_someone_answers_for_it(
    release: Release,
) -> None:
    release.canary(100)
    tally = Tally()
    for _ in range(2_000):
        tally.answered(5.0, 1, 0.1)
    body = {**release.store.reports()[0].body, "busy": BUSY + 1, "epoch": release.plan.epoch}
    for beat in (1, 2):
        release.store.report(Report("another", "boot", beat, body))
        release.controller.tick()
    release.evidence = Evidence(ENOUGH, ENOUGH, (), tally, tally)
    release.controller.tick()
    told = "no headroom: a replica keeps 65.00 processors busy, at most 64"
    assert told == release.controller.waits
    assert told in release.ask("advance")
    assert 100 == release.plan.canary_bps
    assert "epoch" in release.ask("advance", override=True)
