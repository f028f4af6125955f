"""Forks of a process that has imported everything: started, ended, and started again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from data_contracts.bundle import BundleRefused
from serving.candidate_process import CandidateDied, CandidateProcess
from serving.forks import Forks
from serving.loader import Bundle
from tests.unit.test_scorer import root_of_the_feature, row


@pytest.fixture
def forks() -> Iterator[Forks]:
    forks = Forks(60.0)
    yield forks
    forks.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return root_of_the_feature(tmp_path, [0.5, 0.1])


def started(forks: Forks, bundle: Bundle) -> CandidateProcess:
    process = CandidateProcess(forks, bundle, 1, "cpu", 60.0)
    process.until_ready(60.0)
    return process


def test_candidates_of_one_parent_score_and_end_apart(forks: Forks, bundle: Bundle) -> None:
    one, other = started(forks, bundle), started(forks, bundle)
    try:
        assert psutil.Process(one.pid).ppid() == psutil.Process(other.pid).ppid() != os.getpid()
        os.kill(one.pid, signal.SIGKILL)
        with pytest.raises(CandidateDied, match="ended with -9"):
            one.run(*row(0.25))
        assert [0.5] == other.run(*row(0.25)).tolist()
    finally:
        one.close()
        other.close()
    assert not psutil.pid_exists(one.pid) and not psutil.pid_exists(other.pid)


def test_a_parent_that_was_killed_is_replaced_and_its_forks_go_on(
    forks: Forks, bundle: Bundle
) -> None:
    before = started(forks, bundle)
    psutil.Process(before.pid).parent().kill()  # pyright: ignore[reportOptionalMemberAccess]
    after = started(forks, bundle)
    try:
        assert [0.5] == before.run(*row(0.25)).tolist() == after.run(*row(0.25)).tolist()
    finally:
        before.close()
        after.close()


def test_a_candidate_ends_when_whoever_started_it_is_gone(bundle: Bundle) -> None:
    forks = Forks(60.0)
    alone = forks.start([str(bundle.folder), bundle.digest, "t", "1", "1", "cpu"])
    process = psutil.Process(alone.pid)
    forks.close()
    os.close(alone.stdin)
    os.close(alone.stdout)
    psutil.wait_procs([process], timeout=60)
    assert not process.is_running()


def test_a_bundle_that_cannot_be_opened_says_why(forks: Forks, bundle: Bundle) -> None:
    (bundle.folder / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleRefused, match="version 1: did not start"):
        started(forks, bundle)


def test_no_descriptor_is_left_open(forks: Forks, bundle: Bundle) -> None:
    started(forks, bundle).close()
    held = psutil.Process().num_fds()
    for _ in range(3):
        started(forks, bundle).close()
    assert held == psutil.Process().num_fds()


def test_a_fork_has_the_priority_that_its_parent_s_import_went_without(
    forks: Forks, bundle: Bundle
) -> None:
    candidate = started(forks, bundle)
    try:
        assert os.nice(0) == psutil.Process(candidate.pid).nice()
    finally:
        candidate.close()
