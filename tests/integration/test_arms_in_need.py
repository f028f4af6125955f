"""Requests that an arm leaves without an answer, and versions that are asked for by name."""

import asyncio
import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.aggregates import Count
from data_contracts.predictions import prediction_ids
from data_contracts.rollout import Target
from data_contracts.tally import Tally
from serving.arms import Arm, Arms, Name
from serving.breaker import MOST
from serving.forks import Forks
from serving.scorer import ScoreFailed
from tests.integration.releases import Release, register_version
from tests.integration.world import asked, export, write_states

NAMED = "/clicks/v2/models/clicks/versions/2/infer"


@pytest.fixture
def release(release: Release) -> Release:
    """Half of the units are the candidate's."""
    release.canary(5_000)
    return release


def units(release: Release) -> dict[Name, str]:
    """A unit of each arm."""
    snapshot = release.replica.predictor.arms.now
    found = {snapshot.assigned(f"u{i}"): f"u{i}" for i in range(100)}
    assert {"champion", "candidate"} == {*found}
    return found


def tally(release: Release, arm: Name) -> Tally:
    return release.replica.predictor.tallies.get(release.plan.step, {}).get(arm, Tally())


@contextmanager
def champion_busy(release: Release, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The champion's scorer is under way with something that does not end."""
    scorer, ends = release.replica.predictor.arms.now.champion.scorer, threading.Event()
    run = scorer._engine.run

    def waits(ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        ends.wait(60)
        return run(ids, dense)

    monkeypatch.setattr(scorer._engine, "run", waits)
    # A scorer whose last call was brief would be run in the loop's own thread.
    monkeypatch.setattr(scorer._batcher, "_took", 1.0)
    try:
        yield
    finally:
        ends.set()


def test_what_nobody_answers_in_time_is_a_failure_of_the_arm_that_was_asked(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, hurried = units(release), {**release.key, "x-deadline-ms": "3000"}
    monkeypatch.setattr(release, "key", hurried)
    with release.candidate_stopped(), champion_busy(release, monkeypatch):
        found = {arm: release.predict(unit[arm], arm).status_code for arm in unit}
    assert {"champion": 503, "candidate": 503} == found
    for arm in unit:
        counted = tally(release, arm)
        assert (1, {"timeout": 1}, 0) == (counted.requests, counted.failures, counted.scores)
    assert 1 == tally(release, "candidate").failed_requests
    assert {"requests": 1, "failures": {"timeout": 1}}.items() <= (
        release.replica.predictor.totals["champion"].as_dict().items()
    )


def test_a_champion_that_answers_for_a_late_candidate_has_the_features_that_were_read(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = units(release)["candidate"]
    # As one of several requests, whose features are read in a thread, within their time.
    monkeypatch.setattr(release.replica.predictor, "alone", lambda: False)
    monkeypatch.setattr(release.replica.predictor, "candidate_timeout_ms", 500)
    with release.candidate_stopped():
        answer = release.predict(unit, "late").json()
    assert ("1", False) == (answer["version"], answer["flags"]["store_failed"])
    assert "timeout" == release.records()[-1]["fallback"]
    assert 0 == release.replica.predictor.arms.feature_failures


def test_one_pause_of_the_candidate_counts_once_however_many_requests_wait_for_it(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, predictor = units(release)["candidate"], release.replica.predictor
    monkeypatch.setattr(predictor, "alone", lambda: False)
    monkeypatch.setattr(predictor, "candidate_timeout_ms", 500)

    async def at_once() -> list[Any]:
        post, path = release.client._client.post, "/clicks/v1/predict"
        bodies = [asked(user_id=unit, request_id=f"r{i}") for i in range(2 * MOST)]
        return await asyncio.gather(*(post(path, json=b, headers=release.key) for b in bodies))

    with release.candidate_stopped():
        answers = release.client.run(at_once())
    assert {(200, "1")} == {(each.status_code, each.json()["version"]) for each in answers}
    counted = tally(release, "candidate")
    assert {"timeout": 1, "late": 2 * MOST - 1} == counted.failures
    assert 1 == counted.failed_requests
    assert "closed" == release.replica.status()["breaker"]
    assert "2" == release.predict(unit, "after").json()["version"]


def test_a_replica_that_begins_amid_a_canary_exposes_its_candidate_at_once(
    release: Release,
) -> None:
    """Units of the candidate that the champion answered would hide an hour of all replicas."""
    ends = threading.Event()

    def keep() -> None:
        while not ends.wait(0.05):
            release.store.renew("one")

    keeping = threading.Thread(target=keep)
    keeping.start()
    arms = Arms(release.world.use_case, release.lake, release.replica.predictor.arms._settings)
    try:
        assert arms.exposed(arms.now) is not None
    finally:
        ends.set()
        keeping.join()
        asyncio.run(arms.close())


def test_a_replica_that_cannot_start_its_candidate_has_not_taken_up_the_plan(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOMEM, "no memory is left")

    monkeypatch.setattr(Forks, "start", full)
    arms = Arms(release.world.use_case, release.lake, release.replica.predictor.arms._settings)
    try:
        assert (None, 0, 1, {}) == (
            arms.now.candidate, arms.taken_up, arms.plan_failures, arms.broken()
        )  # fmt: skip
    finally:
        asyncio.run(arms.close())


def test_while_a_champion_loads_the_candidate_s_exposure_is_watched_on(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.store.ask("now", "ada", "advance", None, "a test", True)
    release.controller.tick()
    arms = release.replica.predictor.arms
    load, seen = arms._champion, list[bool]()

    def slow(target: Target) -> Arm:
        before, end = arms.exposure.renewed, time.monotonic() + 30
        release.store.renew("one")
        while arms.exposure.renewed == before and time.monotonic() < end:
            threading.Event().wait(0.05)
        seen.append(arms.exposure.renewed > before)
        return load(target)

    monkeypatch.setattr(arms, "_champion", slow)
    assert release.client.run(arms.look())
    assert ([True], "2") == (seen, arms.now.champion.bundle.version)


def test_a_candidate_of_other_definitions_is_given_its_own_features(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "epoch" in release.ask("abort")
    world, user = release.world, release.world.use_case.groups[0]
    seen = {**user.aggregates, "clicks": Count(where=("impression",))}
    groups = (replace(user, aggregates=seen), *world.use_case.groups[1:])
    changed = replace(world.use_case, declared=replace(world.use_case.declared, groups=groups))
    write_states(changed, release.lake)
    folder = tmp_path / "export3"
    register_version(world, folder, export(changed, folder, seed=5))
    assert "epoch" in release.ask("start", "3")
    unit = release.unit(100)
    for use_case in (world.use_case, changed):
        write_states(use_case, release.lake, unit)
    clicks = world.use_case.feature_names.index("user_clicks_1h")

    def answered(name: str) -> tuple[str, float, float]:
        assert 200 == release.predict(unit, name).status_code
        record = next(r for r in reversed(release.records()) if "shadow" not in r)
        assert name == record["request_id"] and not record["store_failed"]
        return record["version"], record["features"][0][clicks], record["scores"][0]

    assert ("1", 1.0) == answered("shadowed")[:2]
    release.client.run(release.replica.predictor.shadow.close())
    (block,) = [r["shadow"] for r in release.records() if "shadow" in r]
    assert "epoch" in release.ask("advance", override=True)
    *found, score = answered("canary")
    assert ["3", 5.0] == found
    assert pytest.approx(block["scores"], abs=1e-6) == [score]
    monkeypatch.setattr(release.replica.predictor, "alone", lambda: False)
    monkeypatch.setattr(release.replica.predictor, "candidate_timeout_ms", 500)
    with release.candidate_stopped():
        assert ("1", 1.0) == answered("in its place")[:2]


def test_a_breaker_that_opens_is_told_of_at_once(release: Release) -> None:
    assert release.replica.predictor.arms._settings.poll_s > 600
    os.kill(release.candidate_pid, signal.SIGKILL)
    assert "1" == release.predict(units(release)["candidate"], "after").json()["version"]

    def told() -> bool:
        return any(report.body["broken"] for report in release.store.reports())

    async def until_told() -> None:
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(told):
                pass

    release.client.run(until_told())


def test_a_champion_s_wrong_score_is_a_failure_of_its_arm(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = units(release)["champion"]

    def wrong(ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        raise ScoreFailed("no probability")

    engine = release.replica.predictor.arms.now.champion.scorer._engine
    with monkeypatch.context() as broken:
        broken.setattr(engine, "run", wrong)
        assert 500 == release.predict(unit, "bad").status_code
    assert 200 == release.predict(unit, "good").status_code
    counted = tally(release, "champion")
    assert (2, {"ScoreFailed": 1}, 1) == (counted.requests, counted.failures, counted.scores)


def test_a_client_that_leaves_in_time_is_nobody_s_failure(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, predictor = units(release)["champion"], release.replica.predictor
    scorer = predictor.arms.now.champion.scorer

    async def left() -> None:
        body: dict[str, Any] = {"request_id": "left", "user_id": unit}
        path = "/clicks/v1/predict"
        asking = asyncio.create_task(
            release.client._client.post(
                path, json={**body, "candidates": [{"item_id": "i1"}]}, headers=release.key
            )
        )
        while scorer._batcher.owes_for() == 0:
            await asyncio.to_thread(bytes)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    with champion_busy(release, monkeypatch):
        release.client.run(left())
    assert {} == tally(release, "champion").failures


def ask_by_name(release: Release, name: str) -> Any:
    users, items = (
        {"name": field, "datatype": "BYTES", "shape": [1], "data": [value]}
        for field, value in (("user_id", "u1"), ("item_id", "i1"))
    )
    outputs = [{"name": "prediction_id"}, {"name": "score"}]
    body = {"id": name, "inputs": [users, items], "outputs": outputs}
    return release.client.post(NAMED, json=body, headers=release.key)


def test_a_version_by_name_is_marked_off_policy_and_its_predictions_are_its_own(
    release: Release,
) -> None:
    answer = ask_by_name(release, "same")
    ids, _ = (output["data"] for output in answer.json()["outputs"])
    expected = prediction_ids("clicks", "2", "same", ["u1\x1fi1"], off_policy=True)
    assert (200, expected) == (answer.status_code, ids)
    off = release.records()[-1]
    assert (True, None, 0, ids) == (off["off_policy"], off["arm"], off["release"],
                                    off["prediction_ids"])  # fmt: skip
    shown = release.predict(units(release)["candidate"], "same").json()
    assert "2" == shown["version"]
    assert ids != [each["prediction_id"] for each in shown["predictions"]]
    assert release.records()[-1]["off_policy"] is False


def test_the_inference_protocol_s_requests_are_assigned_and_logged_like_others(
    release: Release,
) -> None:
    release_number, seen = release.plan.release, dict[str, str]()
    for arm, unit in units(release).items():
        users = {"name": "user_id", "datatype": "BYTES", "shape": [1], "data": [unit]}
        items = {"name": "item_id", "datatype": "BYTES", "shape": [1], "data": ["i1"]}
        body = {"id": f"v2-{arm}", "inputs": [users, items]}
        path = "/clicks/v2/models/clicks/infer"
        answer = release.client.post(path, json=body, headers=release.key).json()
        seen[arm] = answer["model_version"]
        record = release.records()[-1]
        assert (f"v2-{arm}", arm, unit, release_number, False) == (
            record["request_id"], record["arm"], record["unit"], record["release"],
            record["off_policy"],
        )  # fmt: skip
        assert release.predict(unit, f"v1-{arm}").json()["version"] == seen[arm]
    assert {"champion": "1", "candidate": "2"} == seen


def test_a_dead_version_by_name_is_no_error_of_the_server_and_soon_unknown(
    release: Release,
) -> None:
    described = "/clicks/v2/models/clicks"
    assert ["1", "2"] == release.client.get(described).json()["versions"]
    os.kill(release.candidate_pid, signal.SIGKILL)
    answer = ask_by_name(release, "dead")
    assert (503, "version 2: its process ended with -9: name another version") == (
        answer.status_code, answer.json()["error"]
    )  # fmt: skip
    assert "1" == release.predict(units(release)["candidate"], "after").json()["version"]
    assert ["1"] == release.client.get(described).json()["versions"]
    answer = ask_by_name(release, "unknown")
    assert (404, True) == (answer.status_code, "name one of 1" in answer.json()["error"])


def test_a_version_of_the_same_bundle_answers_under_its_own_number(release: Release) -> None:
    champion = release.plan.champion
    arms = release.replica.predictor.arms
    twin = arms._champion(replace(champion, version="3"))
    assert "3" == twin.bundle.version
    assert champion.version == arms._champion(champion).bundle.version
