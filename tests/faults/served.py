"""A server of two replicas on a lake of a test's own, and the plans that it goes by."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree

import psutil

from data_contracts.rollout import Plan
from data_contracts.rollout_store import Report, RolloutStore
from serving.running import RunningServer, running
from serving.settings import Settings
from tests.faults.traffic import Traffic, write_bodies
from tests.integration.world import World

PATIENCE_S = 60.0
LEASE_S = 3.0


class Served:
    """A server of two replicas with two versions to go between."""

    def __init__(self, world: World, server: RunningServer, bodies: Path) -> None:
        self.world, self.server, self.bodies = world, server, bodies
        self.store = RolloutStore(world.lake.rollouts, "clicks")
        self.until(lambda: self.store.plan() is not None)
        closed = self.traffic("closed", 8, 5.0).said()
        self.rate = 0.6 * closed["rps"]
        """Requests a second: 60 % of what both replicas could answer."""

    def traffic(self, mode: str, value: float, seconds: float) -> Traffic:
        return Traffic(self.server.url, self.bodies, mode, value, seconds)

    def until(self, holds: Callable[[], object], within: float = PATIENCE_S) -> float:
        """Seconds until it holds."""
        pause, began = threading.Event(), time.monotonic()
        while not holds():
            assert time.monotonic() - began < within, "it never did"
            pause.wait(0.1)
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
        return self.store.ask("now", "test", action, version, "a fault test", override)

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
        return len(alive) >= 2 and self.store.followed()[0] == epoch

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
def serving(world: World, home: Path) -> Generator[Served]:
    """A server of the world; what else it takes lies in `home`."""
    bodies = home / "bodies.jsonl"
    write_bodies(bodies)
    # Nothing goes on by itself and no gate is looked at: the tests ask for every step.
    folder = copytree(world.use_case.folder, home / "declared" / "clicks")
    declared = (folder / "use_case.py").read_text()
    unhurried = declared.replace('Rollout(unit="user_id")', 'Rollout(unit="user_id", look_s=1e9)')
    assert declared != unhurried
    (folder / "use_case.py").write_text(unhurried)
    settings = Settings(
        root=world.root,
        use_case=str(folder),
        auth=False,
        max_in_flight=10_000,
        replicas=2,
        poll_s=0.25,
        lease_s=LEASE_S,
        candidate_hang_s=1.0,
    )
    with running(settings) as server:
        yield Served(world, server, bodies)
