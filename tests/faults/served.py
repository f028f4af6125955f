"""A server on a lake of a test's own, of two replicas mostly, and the plans that it goes by."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from shutil import copytree
from typing import Any

import psutil

from data_contracts.clock import SystemClock, format_time
from data_contracts.rollout import Plan
from data_contracts.rollout_store import Report, RolloutStore
from serving.running import RunningServer, running
from serving.settings import Settings
from tests.faults.traffic import Traffic, write_bodies
from tests.integration.world import World

PATIENCE_S = 60.0
LEASE_S = 3.0
SUSTAINED_MS = 250.0
"""p99 above which a rate is no longer sustained: it is the queue then that grows."""


class Served:
    """A server with two versions to go between."""

    def __init__(
        self, world: World, server: RunningServer, bodies: Path, settings: Settings
    ) -> None:
        self.world, self.server, self.bodies = world, server, bodies
        self.settings = settings
        self.store = RolloutStore(world.lake.rollouts, "clicks")
        self.until(lambda: self.store.plan() is not None)

    @cached_property
    def capacity(self) -> float:
        """Requests a second that the server sustains, to a twentieth of what a closed loop gets: a
        closed loop's requests come together and are answered together, which costs less."""
        closed = self.traffic("closed", 8, 5.0).said()["rps"]
        good, bad = 0, 20
        while bad - good > 1:
            tried = (good + bad) // 2
            found = self.traffic("open", tried / 20 * closed, 6.0).said()
            held = {"200"} == {*found["statuses"]} and found["p99_ms"] <= SUSTAINED_MS
            good, bad = (tried, bad) if held else (good, tried)
        assert good, "it sustains nothing"
        print({"closed": closed, "sustained": good / 20 * closed})
        return good / 20 * closed

    @property
    def rate(self) -> float:
        """Requests a second: 60 % of what the server sustains."""
        return 0.6 * self.capacity

    def traffic(self, mode: str, value: float, seconds: float) -> Traffic:
        return Traffic(self.server.url, self.bodies, mode, value, seconds)

    def until(
        self, holds: Callable[[], object], within: float = PATIENCE_S, every: float = 0.1
    ) -> float:
        """Seconds until it holds."""
        pause, began = threading.Event(), time.monotonic()
        while not holds():
            assert time.monotonic() - began < within, "it never did"
            pause.wait(every)
        return time.monotonic() - began

    @property
    def plan(self) -> Plan:
        found = self.store.plan()
        assert found is not None
        return found

    @property
    def live(self) -> list[Report]:
        """What the replicas that did not end say of themselves."""
        return [report for report in self.store.reports() if not report.body["ended"]]

    def total(self, count: str) -> int:
        """Of all replicas."""
        return sum(report.body[count] for report in self.store.reports())

    def asked(self, action: str, version: str | None = None, override: bool = True) -> int:
        """The number of a request that need not be answered yet."""
        return self.store.ask(
            format_time(SystemClock().now()), "test", action, version, "a fault test", override
        )

    def answer(self, number: int) -> str | None:
        return next(r.answer for r in self.store.requests() if r.id == number)

    def ask(self, action: str, version: str | None = None) -> None:
        number = self.asked(action, version)
        self.until(lambda: self.answer(number))
        assert not str(self.answer(number)).startswith("refused"), self.answer(number)
        self.until(self.taken_up)

    def taken_up(self) -> bool:
        """Whether every replica that lives goes by the newest plan, and the aliases follow it."""
        epoch = self.plan.epoch
        last = {r.replica: r for r in sorted(self.store.reports(), key=lambda r: r.beat)}
        alive = [r for r in last.values() if r.body["epoch"] >= epoch]
        return len(alive) >= self.settings.replicas and self.store.followed()[0] == epoch

    def settle(self) -> None:
        """The first version alone."""
        if self.plan.candidate is not None:
            self.ask("abort")
        if self.plan.champion.version == "2":
            self.ask("rollback")

    def release(self, version: str, share: int = 10_000) -> None:
        """Take a version to a share, or to the champion's place."""
        self.ask("start", version)
        while self.plan.candidate is not None and self.plan.canary_bps < share:
            self.ask("advance")

    @property
    def candidates(self) -> list[psutil.Process]:
        """Processes that score with a candidate: forks, not what they are forks of."""
        forks = self.processes("serving.forks")
        return [each for each in forks if each.ppid() in {other.pid for other in forks}]

    def processes(self, part: str) -> list[psutil.Process]:
        """Processes of the server whose command line holds `part`."""
        found = []
        for each in psutil.Process(self.server.pid).children(recursive=True):
            try:
                if part in " ".join(each.cmdline()):
                    found.append(each)
            except psutil.Error:
                continue
        return found


@contextmanager
def serving(
    world: World, home: Path, rollout: str = 'unit="user_id", look_s=1e9', **changes: Any
) -> Generator[Served]:
    """A server of the world; what else it takes lies in `home`. `rollout`: as the use case declares
    it; by default nothing goes on by itself and no gate is looked at twice, so that the tests ask
    for every step. `changes`: other settings."""
    bodies = home / "bodies.jsonl"
    write_bodies(bodies)
    folder = copytree(world.use_case.folder, home / "declared" / "clicks")
    declared = (folder / "use_case.py").read_text()
    changed = declared.replace('Rollout(unit="user_id")', f"Rollout({rollout})")
    assert declared != changed
    (folder / "use_case.py").write_text(changed)
    told: dict[str, Any] = {
        "auth": False, "max_in_flight": 10_000, "replicas": 2, "poll_s": 0.25, "lease_s": LEASE_S,
        "candidate_hang_s": 1.0,
    }  # fmt: skip
    settings = Settings(root=world.root, use_case=str(folder), **{**told, **changes})
    with running(settings) as server:
        yield Served(world, server, bodies, settings)
