"""A candidate that takes long to start: nobody waits for it, and it goes with its release."""

import asyncio
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from data_contracts.bundle import BundleRefused
from serving.candidate_process import CandidateProcess
from serving.forks import Forks
from serving.registry import Registry
from tests.integration.releases import Release, released
from tests.integration.world import World
from tests.unit.test_landing_log import files_of_at_most


class Halted:
    """Processes of candidates that stand still before they are ready."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pids: list[int] = []
        self._goes_on = threading.Event()
        self._patched = monkeypatch
        ready = CandidateProcess.until_ready

        def halted(process: CandidateProcess, within: float) -> None:
            os.kill(process.pid, signal.SIGSTOP)
            self.pids.append(process.pid)
            # It may have been ready before it was halted.
            while living(process.pid) and not self._goes_on.wait(0.01):
                pass
            ready(process, within)

        monkeypatch.setattr(CandidateProcess, "until_ready", halted)

    def no_more(self) -> None:
        """Those that come start at once."""
        self._patched.undo()

    def go_on(self) -> None:
        os.kill(self.pids[-1], signal.SIGCONT)
        self._goes_on.set()


def living(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def halted(monkeypatch: pytest.MonkeyPatch) -> Halted:
    return Halted(monkeypatch)


def until(release: Release, holds: Callable[[], object]) -> None:
    """Let the replica work until it holds."""

    async def wait() -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.to_thread(bytes)

    release.client.run(wait())


def ask(release: Release, action: str, version: str | None = None) -> None:
    """What the controller and the replica do of it, once."""
    release.store.ask("now", "ada", action, version, "a test", True)
    look(release)


def look(release: Release) -> None:
    release.controller.tick()
    release.controller.align()
    watch = release.replica.watch
    assert watch is not None
    release.client.run(watch.once())


def said(release: Release) -> Any:
    """What the replica reported last."""
    (report,) = release.store.reports()
    return report.body["epoch"], report.body["champion"]


@pytest.fixture
def starting(release: Release, halted: Halted) -> Release:
    """Version 2 is in the shadow, and does not get ready."""
    release.settle()
    ask(release, "start", "2")
    until(release, lambda: halted.pids)
    return release


def test_plans_are_taken_up_and_requests_answered_while_a_candidate_starts(
    starting: Release, halted: Halted
) -> None:
    arms = starting.replica.predictor.arms
    look(starting)
    assert ("shadow", None) == (arms.now.plan.stage, arms.now.candidate)
    assert (1, "1") == said(starting), "it has not taken up plan 2"
    starting.controller.tick()
    assert "1" == starting.predict("u1", "meanwhile").json()["version"]
    ask(starting, "abort")
    assert ("steady", 3, (3, "1")) == (arms.now.plan.stage, starting.plan.epoch, said(starting))
    until(starting, lambda: not psutil.pid_exists(halted.pids[0]))
    assert 0 == arms.plan_failures


def test_a_candidate_is_attached_once_it_is_ready_to_the_plan_that_there_is_by_then(
    starting: Release, halted: Halted
) -> None:
    arms = starting.replica.predictor.arms
    ask(starting, "hold")
    assert (3, 1) == (starting.plan.epoch, said(starting)[0])
    assert arms.now.plan.held and arms.now.candidate is None
    halted.go_on()
    until(starting, lambda: said(starting)[0] == 3)
    assert halted.pids[0] == starting.candidate_pid
    assert 200 == starting.predict("u1", "shadowed").status_code
    starting.client.run(starting.replica.predictor.shadow.close())
    assert 1 == starting.replica.predictor.shadow.scored


def test_a_machine_that_cannot_start_a_candidate_bars_no_version_and_tries_again(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.settle()
    arms = release.replica.predictor.arms
    with monkeypatch.context() as patched:

        def full(*_: object) -> None:
            raise OSError(errno.EAGAIN, "no process is left")

        patched.setattr(Forks, "start", full)
        failures = arms.plan_failures
        ask(release, "start", "2")
        until(release, lambda: arms.plan_failures > failures and not arms._fills)
        look(release)
        assert ("shadow", None, {}) == (arms.now.plan.stage, arms.now.candidate, arms.broken())
        assert {} == release.store.barred()
        until(release, lambda: not arms._fills)
    look(release)
    until(release, lambda: arms.now.candidate)
    assert arms.now.candidate is not None and arms.now.candidate.breaker.reason is None
    assert arms.taken_up == release.plan.epoch and "shadow" == release.plan.stage


def test_a_bundle_that_this_disk_does_not_take_is_no_refused_bundle(
    built: World, tmp_path: Path
) -> None:
    registry = Registry(built.lake)
    version = registry.version("clicks", "2")
    with files_of_at_most(10), pytest.raises(OSError, match=r"large|written"):
        registry.download(version, tmp_path / "full")
    assert {"manifest.json"} < {
        file.name for file in registry.download(version, tmp_path).iterdir()
    }
    with pytest.raises(BundleRefused, match="its bundle cannot be read"):
        registry.download(version, tmp_path / "none", variant="none")
    with pytest.raises(BundleRefused, match=r"run 0{32} has no artifacts in a folder here"):
        registry.download(replace(version, run_id="0" * 32), tmp_path / "gone")


def test_of_two_releases_the_second_starts_when_the_first_is_given_up(
    starting: Release, halted: Halted
) -> None:
    arms = starting.replica.predictor.arms
    ask(starting, "abort")
    halted.no_more()
    ask(starting, "start", "2")
    until(starting, lambda: arms.now.candidate)
    assert arms.now.candidate is not None and arms.now.candidate.breaker.reason is None
    assert not psutil.pid_exists(halted.pids[0])
    parent = psutil.Process(starting.candidate_pid).parent()
    assert parent is not None
    assert [starting.candidate_pid] == [each.pid for each in parent.children()]
    assert arms.taken_up == starting.plan.epoch


def test_a_server_that_ends_gives_up_the_candidate_that_it_starts(
    built: World, tmp_path: Path, halted: Halted
) -> None:
    with released(built, tmp_path / "ending") as release:
        release.settle()
        ask(release, "start", "2")
        until(release, lambda: halted.pids)
        starting = release.replica.predictor.arms._filling
        assert starting is not None and not starting.done()
    assert starting.done() and starting.exception() is None
    assert not psutil.pid_exists(halted.pids[0])


@pytest.fixture
def forks() -> Iterator[Forks]:
    forks = Forks(60.0)
    yield forks
    forks.close()


def test_forks_that_are_closed_fail_a_start_that_waits_for_them(forks: Forks) -> None:
    failed = list[Exception]()

    def start() -> None:
        try:
            forks.start(["no", "bundle"])
        except OSError as error:
            failed.append(error)

    starts = threading.Thread(target=start)
    starts.start()
    while forks._parent is None:
        assert starts.is_alive()
    os.kill(forks._parent.pid, signal.SIGSTOP)
    forks.close()
    starts.join(60)
    assert [ConnectionResetError] == [type(error) for error in failed]
    with pytest.raises(ConnectionAbortedError):
        forks.start(["no", "bundle"])
