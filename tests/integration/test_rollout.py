"""A release through a real server and controller: who answers, and what ends it."""

import asyncio
import os
import signal
import threading

import numpy as np
import pytest
from mlflow import MlflowClient

from data_contracts.ledger import fails, stands
from data_contracts.moves import Moves
from data_contracts.override import Override
from data_contracts.release import Evidence
from data_contracts.rollout import Plan, bucket, salt
from data_contracts.rollout_store import Report
from data_contracts.sequences import Sums
from data_contracts.stages import MoveRefused
from data_contracts.tally import Tally
from serving.features import FeatureReader
from serving.registry import Registry
from tests.integration.releases import MOST, Release
from tests.unit.test_remaining import outcomes

ENOUGH = Sums(0.0, 1e6, 1.0, 7e4, (5_000, 5_000), 1_000_000)
"""Of two arms that are alike, beyond doubt."""
SOUND = Evidence(pairs=ENOUGH, arms=ENOUGH)


def test_in_the_shadow_the_champion_answers_and_the_candidate_scores_a_copy(
    release: Release,
) -> None:
    assert "epoch" in release.ask("start", "2")
    assert ("shadow", "2") == (release.plan.stage, release.plan.candidate and "2")
    answers = [release.predict(f"u{i}", f"r{i}").json() for i in range(5)]
    assert {"1"} == {answer["version"] for answer in answers}
    release.client.run(release.replica.predictor.shadow.close())
    (block,) = [r["shadow"] for r in release.records() if "shadow" in r]
    ids = [p["prediction_id"] for answer in answers for p in answer["predictions"]]
    assert ("2", ids) == (block["version"], block["prediction_ids"])
    ours = [p["score"] for answer in answers for p in answer["predictions"]]
    assert all(abs(a - b) > 1e-4 for a, b in zip(ours, block["scores"], strict=True))
    moved = Registry(release.lake).aliases("clicks")
    assert {"champion": "1", "shadow": "2"} == moved


def test_a_candidate_s_bundle_is_there_before_a_replica_looks_for_it(release: Release) -> None:
    release.settle()
    release.store.ask("now", "ada", "start", "2", "a test", False)
    release.controller.align()
    named = {target.digest for target in (release.plan.champion, release.plan.candidate) if target}
    assert 2 == len(named)
    assert named == {path.name for path in release.lake.bundles.iterdir()}


def test_a_release_that_could_not_end_is_refused_before_it_starts_unless_overridden(
    release: Release,
) -> None:
    rows = np.arange(9_000)
    outcomes(release.lake, rows / 9_000 * 72, rows // 3, (rows % 20 == 0).astype(int))
    answer = release.ask("start", "2")
    assert answer.startswith("refused for now: release plan: needs ") and "max_days is 14" in answer
    assert "or begin with --override" in answer
    assert ("steady", {"champion": "1"}) == (
        release.plan.stage, Registry(release.lake).aliases("clicks")
    )  # fmt: skip
    assert "epoch" in release.ask("start", "2", override=True)
    assert "shadow" == release.plan.stage


def test_outcomes_that_tell_no_traffic_yet_keep_no_release_from_starting(release: Release) -> None:
    few = np.arange(10)
    outcomes(release.lake, few / 100, few, few % 2)
    assert "epoch" in release.ask("start", "2")


def test_a_canary_answers_its_units_and_keeps_them_while_it_grows(release: Release) -> None:
    release.canary(100)
    mix = salt("clicks", release.plan)
    users = [f"u{i}" for i in range(400)]
    versions: dict[int, list[str]] = {}
    for bps in (100, 500):
        while release.plan.canary_bps < bps:
            release.ask("advance", override=True)
        found = [release.predict(u, f"{bps}-{u}").json()["version"] for u in users]
        expected = ["2" if bucket(mix, u) < bps else "1" for u in users]
        assert expected == found
        versions[bps] = found
    assert versions[100].count("2") < versions[500].count("2")
    assert all(b == "2" for a, b in zip(versions[100], versions[500], strict=True) if a == "2")
    logged = {r["unit"]: r for r in release.records() if r["canary_bps"] == 500}
    assert dict(zip(users, versions[500], strict=True)) == {
        unit: {"candidate": "2", "champion": "1"}[r["arm"]] for unit, r in logged.items()
    }


def test_a_candidate_that_is_killed_hurts_nobody_and_is_taken_out(release: Release) -> None:
    release.canary(100)
    unit = release.unit(100)
    assert "2" == release.predict(unit, "before").json()["version"]
    os.kill(release.candidate_pid, signal.SIGKILL)
    answer = release.predict(unit, "after")
    assert (200, "1") == (answer.status_code, answer.json()["version"])
    record = release.records()[-1]
    assert ("candidate", "CandidateDied") == (record["arm"], record["fallback"])
    release.settle()
    plan = release.plan
    assert ("steady", None, "1") == (plan.stage, plan.candidate, plan.champion.version)
    assert plan.decision is not None and fails(plan.decision) and "-9" in plan.reason
    assert {"2": plan.reason} == release.store.barred()
    assert {"champion": "1"} == Registry(release.lake).aliases("clicks")
    assert [] == Moves(Registry(release.lake), release.lake, release.world.use_case).verify()
    assert "is barred" in release.ask("start", "2")
    assert "epoch" in release.ask("start", "2", override=True)
    assert {} == release.store.barred()


def test_a_candidate_that_hangs_leaves_its_requests_to_the_champion(release: Release) -> None:
    release.canary(100)
    unit = release.unit(100)
    release.hangs_for(0.3)
    os.kill(release.candidate_pid, signal.SIGSTOP)
    answers = [release.predict(unit, f"r{i}") for i in range(4)]
    assert [(200, "1")] * 4 == [(a.status_code, a.json()["version"]) for a in answers]
    release.settle()
    assert "said nothing for 0.3 s" in release.plan.reason


def test_a_score_that_is_no_probability_is_never_answered(release: Release) -> None:
    release.canary(100)
    unit = release.unit(100)
    assert "2" == release.predict(unit, "good").json()["version"]
    answer = release.predict(unit, "bad", candidates=[{"item_id": "i1", "affinity": 2 * MOST}])
    assert (200, "1") == (answer.status_code, answer.json()["version"])
    (why,) = release.replica.predictor.arms.broken().values()
    assert "not all of them in [0, 1]" in why
    assert "open" == release.replica.status()["breaker"]
    assert "1" == release.predict(unit, "later").json()["version"]


def test_without_a_controller_the_candidate_is_not_exposed(release: Release) -> None:
    release.canary(100)
    unit = release.unit(100)
    arms = release.replica.predictor.arms
    assert "2" == release.predict(unit, "led").json()["version"]
    arms.exposure._lease_s = 1e-6
    assert "1" == release.predict(unit, "alone").json()["version"]
    assert "not exposed" == release.records()[-1]["fallback"]
    arms.exposure._lease_s = 600.0
    release.settle()
    assert "2" == release.predict(unit, "led again").json()["version"]


def test_a_release_whose_gates_pass_goes_on_by_itself_and_can_be_rolled_back(
    release: Release,
) -> None:
    release.ask("start", "2")
    tally = Tally()
    for _ in range(2_000):
        tally.answered(5.0, 1, 0.1)
    release.evidence = Evidence(ENOUGH, ENOUGH, (), tally, tally)
    while release.plan.canary_bps < 5_000:
        release.settle()
    shares = [(plan.stage, plan.canary_bps) for plan in release.store.plans()]
    steps = [("canary", bps) for bps in (100, 500, 2_500, 5_000)]
    assert [("steady", 0), ("shadow", 0), *steps] == shares
    # The split was not judged: it is required before the champion's place.
    release.settle()
    assert "sample ratio (cannot judge" in release.controller.waits
    assert "epoch" in release.ask("advance", override=True)
    assert ("steady", "2") == (release.plan.stage, release.plan.champion.version)
    assert "2" == release.predict("u1", "promoted").json()["version"]
    expected = {"champion": "2", "previous_champion": "1"}
    assert expected == Registry(release.lake).aliases("clicks")
    assert "epoch" in release.ask("rollback")
    assert "1" == release.predict("u1", "back").json()["version"]
    assert {"champion": "1"} == Registry(release.lake).aliases("clicks")
    plans = release.store.plans()
    assert all(plan.decision is None or stands(dict(plan.decision)) for plan in plans)
    assert list(range(1, len(plans) + 1)) == [plan.epoch for plan in plans]
    assert [] == Moves(Registry(release.lake), release.lake, release.world.use_case).verify()


def test_harm_beyond_doubt_ends_a_canary_at_any_share(release: Release) -> None:
    release.canary(100)
    release.evidence = Evidence(
        arms=Sums(-2e4, 1e6, 1e6, 7e4, (5_000, 5_000), 1_000_000)
    )  # fmt: skip
    release.settle()
    assert "CTR so far (fail" in release.plan.reason
    assert {"champion": "1"} == Registry(release.lake).aliases("clicks")
    looks = release.store.looks(2)
    assert stands(looks[-1]["decision"]) and "fail" == looks[-1]["decision"]["verdict"]


def test_an_alias_that_was_set_in_mlflow_is_a_request_like_any_other(release: Release) -> None:
    release.settle()
    release.ask("start", "2")
    release.ask("abort")
    client = MlflowClient(release.lake.mlflow_uri, release.lake.mlflow_uri)
    client.set_registered_model_alias("clicks", "champion", "2")
    release.settle()
    release.settle()
    assert {"champion": "1"} == Registry(release.lake).aliases("clicks")
    last = release.store.requests()[-1]
    assert ("MLflow", "start", "2") == (last.actor, last.action, last.version)
    assert "is barred" in str(last.answer)
    assert "1" == release.predict("u1", "still").json()["version"]


def test_a_move_made_by_command_is_taken_up_by_the_plan(release: Release) -> None:
    release.settle()
    moves = Moves(Registry(release.lake), release.lake, release.world.use_case, "ada")
    moves.promote("2", "champion")
    release.settle()
    assert ("2", "ada") == (release.plan.champion.version, release.plan.actor)
    assert "2" == release.predict("u1", "moved").json()["version"]


def test_a_barred_version_is_promoted_by_no_command_unless_someone_answers_for_it(
    release: Release,
) -> None:
    release.ask("start", "2")
    release.ask("abort")
    moves = Moves(Registry(release.lake), release.lake, release.world.use_case, "ada")
    moves.promote("2", "challenger")
    for stage in ("shadow", "canary", "champion"):
        with pytest.raises(MoveRefused, match=r"version 2: is barred \(aborted by ada"):
            moves.promote("2", stage)
    release.settle()
    assert ("1", None) == (release.plan.champion.version, release.plan.candidate)
    moves.promote("2", "champion", Override("eve", "the gate was wrong"))
    release.settle()
    assert "2" == release.plan.champion.version
    assert {} == release.store.barred()


def test_features_that_no_arm_takes_any_longer_are_read_no_more(release: Release) -> None:
    release.settle()
    arms = release.replica.predictor.arms
    kept = dict(arms._readers)
    gone = FeatureReader(
        release.world.use_case, release.lake, arms.now.champion.bundle.manifest.feature_digests
    )
    gone.failures = 3
    arms._readers["of an earlier champion"] = gone
    release.ask("start", "2")
    assert kept == arms._readers and 3 == arms.feature_failures

    async def retired() -> None:
        await asyncio.gather(*arms._retiring)

    release.client.run(retired())
    assert [] == arms._leaving and 3 == arms.feature_failures


def test_without_memory_for_a_candidate_a_release_begins_only_if_someone_answers_for_it(
    release: Release,
) -> None:
    release.settle()
    body = release.store.reports()[0].body
    crowded = {"own": body["memory"]["own"], "candidate": 0, "left": 1 << 20}
    for beat in (1, 2):
        report = Report("another", "boot", beat, {**body, "memory": crowded})
        release.store.report(report)
        release.controller.tick()
    assert "no headroom: the candidate may take" in release.ask("start", "2")
    assert "epoch" in release.ask("start", "2", override=True)
    release.settle()
    own = next(each for each in release.store.reports() if each.replica != "another")
    assert 0 < own.body["memory"]["candidate"] < own.body["memory"]["own"]


def test_a_candidate_with_another_bundle_than_registered_is_never_exposed(
    release: Release,
) -> None:
    client = MlflowClient(release.lake.mlflow_uri, release.lake.mlflow_uri)
    good = client.get_model_version("clicks", "2").tags["bundle_sha256"]
    client.set_model_version_tag("clicks", "2", "bundle_sha256", "0" * 64)
    try:
        assert "has no decision of its bundle that its evidence leads to" in release.ask(
            "start", "2"
        )
        assert "epoch" in release.ask("start", "2", override=True)
        release.settle()
        assert "steady" == release.plan.stage
        assert "version 2" in release.plan.reason and "registered as" in release.plan.reason
    finally:
        client.set_model_version_tag("clicks", "2", "bundle_sha256", good)


def test_of_two_controllers_one_leads_until_it_is_silent(release: Release) -> None:
    release.settle()
    second = release.another("two", lease_s=3600.0)
    assert second.tick() is None and not second.leads
    third = release.another("three", lease_s=0.0)
    assert third.tick() is not None and third.leads
    assert release.store.renew("one") is False
    with pytest.raises(MoveRefused, match="does not follow the last one"):
        release.store.add(release.plan)


def test_a_long_look_keeps_the_lease_and_a_hanging_one_loses_it(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.canary()
    beats: list[int] = []
    reads, goes_on = threading.Event(), threading.Event()

    def slow(plan: Plan, reports: list[Report]) -> Evidence:
        reads.set()
        goes_on.wait(60)
        return Evidence()

    controller = release.another("slow", look=slow)
    looking = threading.Thread(target=controller.tick)
    looking.start()
    try:
        assert reads.wait(60)
        for hung_s in (60.0, 60.0, 0.0):
            monkeypatch.setattr("serving.release.HUNG_S", hung_s)
            controller.keep()
            beat = release.store.beat()
            assert beat is not None
            beats.append(beat[1])
    finally:
        goes_on.set()
        looking.join(60)
    assert [beats[0], beats[0] + 1, beats[0] + 1] == beats


def test_the_same_unit_falls_where_it_fell_and_shares_are_what_they_say() -> None:
    found = np.array([bucket("clicks\x1f7", f"u{i}") for i in range(100_000)])
    assert (bucket("clicks\x1f7", "u1"), bucket("clicks\x1f8", "u1")) == (3543, 2729)
    assert abs((found < 500).mean() - 0.05) < 0.003
