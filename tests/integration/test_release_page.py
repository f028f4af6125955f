"""The rollout over HTTP: keys, the page's session, its token, and what is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.rollout_store import Report
from serving.app import build_app
from serving.auth import create_key, revoke_key
from serving.traffic import measured, needs
from tests.integration.asgi import Client
from tests.integration.releases import Release, build_two
from tests.integration.world import World, as_role, patient
from tests.unit.test_remaining import outcomes

ASKED = {"action": "start", "version": "2", "reason": "a test", "actor": "ada"}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    world = build_two(tmp_path_factory.mktemp("page"))
    settings = patient(world.root, clock="replay", poll_s=3600.0)
    with Client(build_app(settings)) as client:
        yield Release(world, client)


@pytest.fixture(scope="module")
def world(release: Release) -> World:
    return release.world


def signed_in(release: Release, key: str = "") -> dict[str, str]:
    """The headers of a page's session."""
    login = {"key": key or release.world.operate}
    answer = release.client.post("/clicks/release/session", json=login)
    assert 204 == answer.status_code
    release.client.forget()
    said = answer.headers["set-cookie"]
    assert all(flag in said for flag in ("HttpOnly", "SameSite=Strict", "Path=/"))
    return {"cookie": said.partition(";")[0]}


def told(release: Release, headers: dict[str, str]) -> Any:
    return release.client.get("/clicks/v1/rollout", headers=headers)


def test_before_a_controller_ran_there_is_no_plan_to_tell(release: Release, world: World) -> None:
    answer = told(release, as_role(world.operate))
    assert (404, True) == (answer.status_code, "no plan yet" in answer.json()["detail"])


def test_only_role_operate_sees_and_asks(release: Release, world: World) -> None:
    release.settle()
    for headers, status in (({}, 401), (as_role(world.predict), 403)):
        assert status == told(release, headers).status_code
        asked = release.client.post("/clicks/v1/rollout", json=ASKED, headers=headers)
        assert status == asked.status_code
    login = release.client.post("/clicks/release/session", json={"key": world.predict})
    assert 403 == login.status_code


def test_a_page_asks_with_its_session_and_its_token_alone(release: Release) -> None:
    release.settle()
    session = signed_in(release)
    seen = told(release, session).json()
    forged = {"cookie": session["cookie"][:-1] + ("0" if session["cookie"][-1] != "0" else "1")}
    assert 401 == told(release, forged).status_code
    late = f"{session['cookie'].partition('=')[0]}=1.abc.{'0' * 64}"
    assert 401 == told(release, {"cookie": late}).status_code
    for token in ({}, {"x-csrf-token": "0" * 64}):
        refused = release.client.post("/clicks/v1/rollout", json=ASKED, headers=session | token)
        assert 403 == refused.status_code
    asked = release.client.post(
        "/clicks/v1/rollout", json=ASKED, headers=session | {"x-csrf-token": seen["csrf"]}
    )
    assert 202 == asked.status_code
    release.settle()
    found = told(release, session).json()
    assert ("clicks", "clicks", False) == (found["use_case"], found["title"], found["simulated"])
    assert ("shadow", "2", [100, 500, 2500, 5000]) == (
        found["stage"], found["candidate"], found["steps"]
    )  # fmt: skip
    assert ("ada (key replay)", "promote", "2", "shadow") == tuple(
        found["moves"][-1][name] for name in ("actor", "action", "version", "to")
    )
    alive = [each["replica"] for each in found["replicas"]]
    release.store.report(Report("gone", "boot", 1, {**release.store.reports()[0].body, "at": 1.0}))
    assert alive == [each["replica"] for each in told(release, session).json()["replicas"]]


def test_nobody_without_a_key_has_a_big_body_read(release: Release) -> None:
    path = "/clicks/release/session"
    answer = release.client.post(path, content=b'{"key": "%s' % (b"k" * 5_000))
    assert (413, True) == (answer.status_code, "more than 4096 bytes" in answer.json()["detail"])


def test_a_session_ends_with_the_key_that_it_was_begun_with(release: Release, world: World) -> None:
    release.settle()
    other = create_key(world.lake.keys, ["operate"], "a guest")
    mine, theirs = signed_in(release), signed_in(release, other)
    token = {"x-csrf-token": told(release, theirs).json()["csrf"]}
    revoke_key(world.lake.keys, "a guest")
    asked = release.client.post("/clicks/v1/rollout", json=ASKED, headers=theirs | token)
    assert (401, 401) == (told(release, theirs).status_code, asked.status_code)
    assert 200 == told(release, mine).status_code


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "explode"},
        {"version": None},
        {"action": "abort"},
        {"reason": ""},
        {"version": "../2"},
        {"stranger": 1},
    ],
)
def test_what_makes_no_sense_is_refused(
    release: Release, world: World, wrong: dict[str, Any]
) -> None:
    body = ASKED | wrong
    headers = as_role(world.operate)
    assert 422 == release.client.post("/clicks/v1/rollout", json=body, headers=headers).status_code


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_other_script(release: Release) -> None:
    for name in ("release", "release/release.js", "release/release.css"):
        answer = release.client.get(f"/clicks/{name}")
        assert 200 == answer.status_code
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")


def test_the_secret_is_the_owners_alone(release: Release, tmp_path: Path) -> None:
    signed_in(release)
    assert 0o600 == (release.lake.root / "session.secret").stat().st_mode & 0o777


def test_plans_and_decisions_are_told_in_full_and_what_a_release_needs(
    release: Release, world: World
) -> None:
    release.settle()
    paths = [f"/clicks/v1/rollout/{what}" for what in ("plan", "history", "replay")]
    for headers, status in (({}, 401), (as_role(world.predict), 403)):
        assert {status} == {release.client.get(p, headers=headers).status_code for p in paths}
    plan, history, replay = (release.client.get(p, headers=as_role(world.operate)) for p in paths)
    told = history.json()["plans"]
    assert [each.epoch for each in release.store.plans()] == [each["epoch"] for each in told]
    assert (200, []) == (replay.status_code, replay.json()["faults"])
    assert (409, True) == (plan.status_code, "no hour of matured" in plan.json()["detail"])
    rows = np.arange(4_000)
    outcomes(world.lake, rows / 4_000 * 72, rows // 4, (rows % 10 == 0).astype(int))
    found = release.client.get(paths[0], headers=as_role(world.operate)).json()
    assert needs(world.use_case, measured(world.lake)).as_dict().items() <= found.items()
    assert measured(world.lake).as_dict() == found["traffic"]
