"""Moves that die half-way, and moves that meet: two writers, one that waits, one that looks."""

import os
import subprocess
import sys
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from data_contracts.file_lock import locked
from data_contracts.lake import Lake
from data_contracts.ledger import open_intent
from data_contracts.moves import Moves
from data_contracts.rollout_store import RolloutStore
from data_contracts.stages import MoveRefused, stage_of
from tests.integration.dying_mover import BARRED, STEPS
from tests.integration.moved import (
    ADA,
    AFTER,
    BEFORE,
    CLICKS,
    NAME,
    copy_of,
    moves_of,
)
from training.registry import Registry

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lake(first: Lake, tmp_path: Path) -> Lake:
    return copy_of(first, tmp_path / "lake")


@pytest.fixture(scope="module")
def mover(first: Lake) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.integration.dying_mover", str(first.root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()
        assert 0 == process.wait(60)


def asked(mover: subprocess.Popen[str], what: str) -> str:
    """What the mover answers."""
    assert mover.stdin and mover.stdout
    mover.stdin.write(f"{what}\n")
    mover.stdin.flush()
    return mover.stdout.readline().strip()


def lock_of(lake: Lake) -> Path:
    return lake.ledger.with_name(f"{NAME}.lock")


def waiters(lock: Path) -> int:
    """How often this process has the lock's file open."""
    links = Path("/proc/self/fd").iterdir()
    return sum(os.path.realpath(link) == str(lock.resolve()) for link in links)


def test_a_move_killed_anywhere_is_made_whole_at_the_next_start(
    first: Lake, mover: subprocess.Popen[str]
) -> None:
    opened: list[int] = []
    for step in range(len(STEPS) + 1):
        dead = Lake(Path(asked(mover, f"{step} kill")), NAME)
        moves = moves_of(dead)
        assert [] == moves.verify()
        if open_intent(moves.history()):
            opened.append(step)
        assert (step in opened) == moves.recover()
        assert (AFTER if step else BEFORE) == Registry(dead).aliases(NAME)
        assert ({} if step else BARRED) == RolloutStore(dead.rollouts, NAME).barred()
        assert open_intent(moves.history()) is None
        assert [] == moves.verify()
    assert [1, 2, 3, 4, 5, 6] == opened


def test_of_two_writers_at_once_one_moves_and_the_other_is_told(
    first: Lake, mover: subprocess.Popen[str]
) -> None:
    held = Lake(Path(asked(mover, f"{STEPS.index('set_alias') + 1} stop")), NAME)
    moves = moves_of(held, patience_s=0.1)
    for move in (lambda: moves.promote("3", "champion", ADA), moves.recover, moves.restore):
        with pytest.raises(MoveRefused, match="another process is moving it: try again"):
            move()
    assert [] == moves.verify()
    assert "done" == asked(mover, "go on")
    assert AFTER == Registry(held).aliases(NAME)
    assert [] == moves.verify()


def test_a_mover_waits_for_one_that_is_done_soon(lake: Lake) -> None:
    moves, lock = moves_of(lake, patience_s=60.0), lock_of(lake)
    with ThreadPoolExecutor() as pool:
        with locked(lock):
            moved = pool.submit(moves.promote, "2", "champion")
            while waiters(lock) < 2:
                assert not moved.done(), moved.result()
        assert AFTER == moved.result(60).said["after"]
    assert AFTER == Registry(lake).aliases(NAME)


def test_of_two_who_ask_for_the_same_step_one_makes_it_and_the_other_is_told(lake: Lake) -> None:
    lock = lock_of(lake)
    with ThreadPoolExecutor() as pool:
        with locked(lock):
            asked_for = [
                pool.submit(moves_of(lake, patience_s=60.0).promote, "2") for _ in range(2)
            ]
            while waiters(lock) < 3:
                assert not any(each.done() for each in asked_for)
        refused = [each.exception(60) for each in asked_for]
    (row,) = (each.result() for each in asked_for if not each.exception())
    assert ("challenger", "shadow") == (stage_of(row.said["before"], "2"), row.said["to"])
    (told,) = (each for each in refused if each)
    assert isinstance(told, MoveRefused)
    assert "its stage is shadow by now, and was challenger when this was asked" in str(told)
    assert "2" == Registry(lake).aliases(NAME)["shadow"]


def test_who_asks_during_a_move_has_seen_what_was_before_it(
    first: Lake, mover: subprocess.Popen[str]
) -> None:
    dead = Lake(Path(asked(mover, f"{STEPS.index('set_alias') + 2} term")), NAME)
    assert "challenger" == moves_of(dead).stage("2")
    with pytest.raises(MoveRefused, match="is champion by now, and was challenger when"):
        moves_of(dead).promote("2")
    assert "champion" == moves_of(dead).stage("2")


def test_where_nothing_is_to_be_restored_no_move_is_met(lake: Lake) -> None:
    moves, client = moves_of(lake, patience_s=0.0), MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    with locked(lock_of(lake)):
        assert {} == moves.restore()
        client.set_registered_model_alias(NAME, "champion", "3")
        with pytest.raises(MoveRefused, match="another process is moving it: try again"):
            moves.restore()
    assert {"champion": "3"} == moves.restore()
    assert "1" == Registry(lake).aliases(NAME)["champion"]
    assert {} == moves.restore()


def test_a_damaged_ledger_restores_nothing(lake: Lake) -> None:
    moves = moves_of(lake)
    assert {} == moves.restore()
    lake.ledger.unlink()
    with pytest.raises(MoveRefused, match="its ledger is damaged: the tail is cut"):
        moves.restore()


class Disturbed(Registry):
    """One that is moved right before the answers whose numbers are given, from 1."""

    def __init__(self, lake: Lake, at: Container[int]) -> None:
        super().__init__(lake)
        self.moves, self.at, self.answers = moves_of(lake), at, 0

    def _answer(self) -> None:
        self.answers += 1
        if self.answers in self.at:
            if "3" == self.moves.aliases().get("shadow"):
                self.moves.demote("3", ADA)
            else:
                self.moves.promote("3", "shadow", ADA)

    def standing(self, name: str) -> tuple[dict[str, str], str | None]:
        self._answer()
        return super().standing(name)


def test_a_sound_move_between_two_readings_is_no_fault(lake: Lake) -> None:
    for at in range(1, 5):
        assert [] == Moves(Disturbed(lake, {at}), lake, CLICKS).verify()
        assert {} == Moves(Disturbed(lake, {at}), lake, CLICKS).restore()
    with pytest.raises(MoveRefused, match="is moved while it is read: try again"):
        Moves(Disturbed(lake, range(100)), lake, CLICKS).verify()
