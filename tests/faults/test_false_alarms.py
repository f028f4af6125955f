"""Simulated releases through the real controller, its store, the registry and the ledger."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from data_contracts.clock import SystemClock
from data_contracts.lake import Lake
from data_contracts.moves import Moves
from data_contracts.release import Evidence
from data_contracts.rollout import Plan, Rollout
from data_contracts.rollout_store import Report, RolloutStore
from data_contracts.tally import Tally
from data_contracts.use_case import UseCase, load_use_case
from serving.registry import Registry
from serving.release import Controller
from tests.benchmarks.releases import RAMP, SAME, WORSE, Look, Scenario, Shop, simulated
from tests.integration.releases import register_second
from tests.integration.world import World, build

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2400)]
SOME = 10
STEPS = tuple(round(share * 10_000) for share, _ in RAMP)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = build(tmp_path_factory.mktemp("alarms") / "lake")
    register_second(world)
    return world


def sound() -> Tally:
    """Of a step on which nothing went wrong."""
    tally = Tally()
    for _ in range(2_000):
        tally.answered(5.0, 1, 0.07)
    return tally


class Simulated:
    """A controller that is told of a simulated release, look by look."""

    def __init__(self, use_case: UseCase, lake: Lake, place: Path) -> None:
        self.store = RolloutStore(place, "clicks")
        self._tally = sound()
        self._look: Look | None = None
        self._tuned = {"CTR": 1.0, "paired log loss": 1.0}
        registry = Registry(lake)
        self._controller = Controller(
            impatient(use_case), self.store, registry,
            Moves(registry, lake, use_case, "test"),
            self._evidence, lambda: self._tuned, lambda _: None, SystemClock(), "one", 0.0,
        )  # fmt: skip

    def _evidence(self, plan: Plan, reports: list[Report]) -> Evidence:
        if self._look is None:
            return Evidence()
        at = self._look
        return Evidence(at.pairs, at.arms, tuple(at.splits), self._tally, self._tally)

    @property
    def plan(self) -> Plan:
        found = self.store.plan()
        assert found is not None
        return found

    def ask(self, action: str, version: str | None = None) -> None:
        self.store.ask("now", "test", action, version, "a simulation", True)
        self.turn()

    def turn(self) -> None:
        for _ in range(2):
            self._controller.tick()
            self._controller.align()

    def ended(self, release: Iterator[Look]) -> str:
        """`champion`, `rolled back`, or `open` after the last look."""
        first = next(release)
        self._tuned = dict(zip(("CTR", "paired log loss"), first.planned, strict=True))
        self.turn()
        self.ask("start", "2")
        self._look = first
        try:
            for step, (_, looks) in enumerate(RAMP):
                self.ask("advance")
                self.ask("hold")
                if self.plan.candidate is None:
                    return "rolled back"
                if step == len(RAMP) - 1:
                    self.ask("resume")
                for number in range(looks):
                    if (step, number) != (0, 0):
                        self._look = next(release)
                    # The replica that no release here has is heard anew at each look.
                    epoch = self.plan.epoch
                    beat = len(self.store.looks(self.plan.release)) + 1
                    memory = {"own": 0, "candidate": 0, "left": None}
                    idle = {"busy": 0.0, "log_refuses": False, "memory": memory}
                    body = {"epoch": epoch, "broken": {}, "tallies": {}, **idle}
                    self.store.report(Report("r", "b", beat, body))
                    self._controller.tick()
                    if self.plan.candidate is None:
                        won = self.plan.champion.version == "2"
                        return "champion" if won else "rolled back"
            return "open"
        finally:
            self._controller.align()
            if self.plan.candidate is not None:
                self.ask("abort")
            elif self.plan.champion.version == "2":
                self.ask("rollback")
            self.turn()


def impatient(use_case: UseCase) -> UseCase:
    rollout = Rollout(unit="user_id", steps=STEPS, look_s=0.0, dwell_s=0.0)
    return replace(use_case, declared=replace(use_case.declared, rollout=rollout))


def outcomes(world: World, place: Path, scenario: Scenario, many: int) -> Counter[str]:
    """How many of so many releases ended in which way; as many processes as there are cores."""
    rest = repeat(world.root), repeat(place), repeat(scenario)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        found = sum(pool.map(some, range(0, many, SOME), *rest), Counter())
    print(scenario.name, dict(found))
    assert many == found.total()
    return found


def some(first: int, root: Path, place: Path, scenario: Scenario) -> Counter[str]:
    """Of `SOME` releases, on a lake of their own: a ledger is verified as a whole before every
    move, and a short one keeps that short."""
    fresh, use_case, shop = place / f"lake{first}", load_use_case("clicks"), Shop()
    copytree(root, fresh)
    lake = Lake(fresh, use_case.name)
    found: Counter[str] = Counter()
    for number in range(first, first + SOME):
        release = simulated(shop, scenario, np.random.default_rng((11, number)))
        found[Simulated(use_case, lake, place / f"{number}.db").ended(release)] += 1
    return found


def test_of_releases_of_an_equal_model_one_in_twenty_is_rolled_back_at_most(
    world: World, tmp_path: Path
) -> None:
    found = outcomes(world, tmp_path, SAME, 400)
    assert found["rolled back"] <= 20


def test_a_model_with_a_fifth_fewer_clicks_becomes_champion_once_in_two_hundred_at_most(
    world: World, tmp_path: Path
) -> None:
    found = outcomes(world, tmp_path, WORSE, 200)
    assert found["champion"] <= 1
