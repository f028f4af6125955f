"""A release whose disk is full, or whose registry is away."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_contracts.moves import Moves
from serving.registry import Registry
from tests.integration.releases import Release, register_second, registry_away, released
from tests.integration.world import World, build
from tests.unit.test_landing_log import files_of_at_most


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = build(tmp_path_factory.mktemp("released") / "lake")
    register_second(world)
    return world


@pytest.fixture
def release(built: World, tmp_path: Path) -> Iterator[Release]:
    with released(built, tmp_path / "lake") as release:
        yield release


def test_a_full_disk_is_not_the_candidate_s_fault_and_nothing_is_judged_by_it(
    release: Release,
) -> None:
    assert "epoch" in release.ask("start", "2")
    shadow = release.replica.predictor.shadow
    with files_of_at_most(0):
        assert 200 == release.predict("u1", "unlogged").status_code
        release.client.run(shadow.close())
    assert (0, 1) == (shadow.scored, shadow.dropped)
    assert release.replica.status()["breaker"] is None
    release.settle()
    assert "not judgeable: the prediction log takes no record" in release.ask("advance")
    assert "not judgeable" in release.controller.waits
    assert "not judgeable" in release.store.looks(2)[-1]["waits"]
    assert 200 == release.predict("u1", "logged").status_code
    release.client.run(shadow.close())
    release.settle()
    assert "not judgeable" not in release.controller.waits
    assert ("shadow", 1, 1) == (release.plan.stage, shadow.scored, shadow.dropped)


def test_a_rollback_waits_for_no_registry_and_returns_to_the_champion_that_was_served(
    release: Release,
) -> None:
    release.canary(5_000)
    moved = Moves(Registry(release.lake), release.lake, "clicks").history()
    with registry_away(release.lake):
        for action in ("advance", "rollback"):
            release.store.ask("now", "ada", action, None, "a test", True)
        began = time.monotonic()
        release.controller.tick()
        assert time.monotonic() - began < 2.0
    champions = [plan.champion.version for plan in release.store.plans()[-3:]]
    assert ["1", "2", "1"] == champions
    release.settle()
    assert {"champion": "1"} == Registry(release.lake).aliases("clicks")
    assert "is barred" in release.ask("start", "2")
    moves = Moves(Registry(release.lake), release.lake, "clicks")
    assert [] == moves.verify() and moved == moves.history()[: len(moved)]


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
        assert release.controller.registry_failures
    release.settle()
    assert {"champion": "1"} == Registry(release.lake).aliases("clicks")
    assert "1" == release.predict(unit, "later").json()["version"]
    assert [] == Moves(Registry(release.lake), release.lake, "clicks").verify()
