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
from tempfile import TemporaryDirectory

import numpy as np

from data_contracts.clock import SystemClock
from data_contracts.lake import Lake
from data_contracts.moves import Moves
from data_contracts.release import Evidence
from data_contracts.rollout import BUCKETS, Plan, Rollout
from data_contracts.rollout_store import Report, RolloutStore
from data_contracts.use_case import UseCase, load_use_case
from serving.registry import Registry
from serving.release import Controller
from tests.benchmarks.noise import Noise
from tests.benchmarks.releases import RAMP, Look, Scenario, Shop, simulated

SHADOW: tuple[tuple[float, int], ...] = ((0.0, 8),)
STEPS = tuple(round(share * BUCKETS) for share, _ in RAMP)
SOME = 10


class Simulated:
    """A controller that is told of a simulated release, look by look."""

    def __init__(self, use_case: UseCase, lake: Lake, place: Path, seed: int) -> None:
        self.store = RolloutStore(place, "clicks")
        self._rng = np.random.default_rng((13, seed))
        self._seen = Evidence()
        self._tuned = {"CTR": 1.0, "paired log loss": 1.0}
        registry = Registry(lake)
        self._controller = Controller(
            impatient(use_case), self.store, registry,
            Moves(registry, lake, use_case, "test"),
            self._evidence, lambda: self._tuned, lambda: None, lambda _: None,
            SystemClock(), "one", 0.0,
        )  # fmt: skip

    def _evidence(self, plan: Plan, reports: list[Report]) -> Evidence:
        return self._seen

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
        """`champion`, `rolled back`, or after the last look `open`; `not judged` where looks were
        lost, or the last one put no figure on the CTR. A person takes the release from step to
        step, in the shadow too: what is simulated is whether a gate ends it."""
        at = next(release)
        self._tuned = dict(zip(("CTR", "paired log loss"), at.planned, strict=True))
        self._seen = Evidence()
        self.turn()
        self.ask("start", "2")
        self.ask("hold")
        ramp = (*SHADOW, *RAMP)
        try:
            for step, (_, looks) in enumerate(ramp):
                if step:
                    self.ask("advance")
                    self.ask("hold")
                if step == len(ramp) - 1:
                    self.ask("resume")
                noise = Noise(self._rng)
                for number in range(looks):
                    if (step, number) != (0, 0):
                        at = next(release)
                    noise.add(*at.shown)
                    seen = at.pairs, at.arms, tuple(at.splits)
                    self._seen = Evidence(*seen, noise.champion, noise.candidate)
                    self._look()
                    if self.plan.candidate is None:
                        won = self.plan.champion.version == "2"
                        return "champion" if won else "rolled back"
            return "open" if self._judged(sum(many for _, many in ramp)) else "not judged"
        finally:
            self._controller.align()
            if self.plan.candidate is not None:
                self.ask("abort")
            elif self.plan.champion.version == "2":
                self.ask("rollback")
            self.turn()

    def _judged(self, many: int) -> bool:
        """Whether there were so many looks at least and the last has an interval for the CTR."""
        looks = self.store.looks(self.plan.release)
        checks = looks[-1]["decision"]["checks"] if looks else []
        return len(looks) >= many and any(c["name"] == "CTR" and c["interval"] for c in checks)

    def _look(self) -> None:
        """The replica that no release here has is heard anew at each look."""
        beat = len(self.store.looks(self.plan.release)) + 1
        memory = {"own": 0, "candidate": 0, "left": None}
        idle = {"busy": 0.0, "log_refuses": False, "memory": memory}
        body = {"epoch": self.plan.epoch, "broken": {}, "tallies": {}, **idle}
        self.store.report(Report("r", "b", beat, body))
        self._controller.tick()


def impatient(use_case: UseCase) -> UseCase:
    rollout = Rollout(unit="user_id", steps=STEPS, look_s=0.0, dwell_s=0.0)
    return replace(use_case, declared=replace(use_case.declared, rollout=rollout))


def outcomes(root: Path, scenario: Scenario, many: int) -> Counter[str]:
    """How many of so many releases of the world at `root` ended in which way; as many processes as
    there are cores."""
    # Half of a release's time would be the disk's, for files that nobody needs after a crash.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        TemporaryDirectory(dir=memory, prefix="headrace-") as place,
        ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool,
    ):
        rest = repeat(root), repeat(Path(place)), repeat(scenario), repeat(SOME)
        found = sum(pool.map(some, range(0, many, SOME), *rest), Counter())
    print(scenario.name, dict(found))
    assert many == found.total()
    return found


def some(first: int, root: Path, place: Path, scenario: Scenario, many: int) -> Counter[str]:
    """Of `many` releases, on a lake of their own: a ledger is verified as a whole before every
    move, and a short one keeps that short."""
    fresh, use_case, shop = place / f"lake{first}", load_use_case("clicks"), Shop()
    copytree(root, fresh)
    lake = Lake(fresh, use_case.name)
    found: Counter[str] = Counter()
    for number in range(first, first + many):
        rng = np.random.default_rng((11, number))
        release = simulated(shop, scenario, rng, f"clicks\x1f{number}", (*SHADOW, *RAMP))
        found[Simulated(use_case, lake, place / f"{number}.db", number).ended(release)] += 1
    return found
