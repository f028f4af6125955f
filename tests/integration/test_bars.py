"""Bars that are set while someone answers for another one: they stay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.lake import Lake
from data_contracts.ledger import INTENT, follow
from data_contracts.ledger_store import LedgerStore
from data_contracts.rollout import Plan, Target
from data_contracts.rollout_store import RolloutStore
from data_contracts.stages import MoveRefused
from serving.registry import Registry as Served
from tests.integration.moved import ADA, AFTER, NAME, copy_of, moves_of
from tests.integration.releases import Release
from training.registry import Registry

ANSWERED, LATER = "its gates say fail", "its process ended with -9"
ONE = Target("1", "ab12")


@pytest.fixture
def lake(first: Lake, tmp_path: Path) -> Lake:
    """Version 2 is barred."""
    lake = copy_of(first, tmp_path / "lake")
    RolloutStore(lake.rollouts, NAME).add(Plan(1, ONE), {"2": ANSWERED})
    return lake


def first_call(
    monkeypatch: pytest.MonkeyPatch, of: type, name: str, before: Callable[[], object]
) -> None:
    """Let the next call of a method be preceded by something."""
    method = getattr(of, name)

    def called(*given: Any) -> Any:
        monkeypatch.undo()
        before()
        return method(*given)

    monkeypatch.setattr(of, name, called)


def test_a_bar_that_came_after_an_override_outlives_the_move_that_was_left_open(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise ConnectionError("MLflow is away")

    rollout, moves = RolloutStore(lake.rollouts, NAME), moves_of(lake)
    first_call(monkeypatch, Registry, "set_alias", away)
    with pytest.raises(ConnectionError):
        moves.promote("2", "champion", ADA)
    rollout.add(Plan(2, ONE), {"2": LATER})
    assert moves.recover()
    assert (AFTER, {"2": LATER}) == (Registry(lake).aliases(NAME), rollout.barred())
    assert [] == moves.verify()


def test_a_version_that_is_barred_while_someone_answers_for_another_bar_is_not_moved(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout, moves = RolloutStore(lake.rollouts, NAME), moves_of(lake)
    before = moves.history()
    first_call(monkeypatch, Registry, "decided", lambda: rollout.add(Plan(2, ONE), {"2": LATER}))
    with pytest.raises(MoveRefused, match=rf"version 2: is barred \({LATER}\): name who"):
        moves.promote("2", "champion", ADA)
    assert (before, {"2": LATER}) == (moves.history(), rollout.barred())
    assert ADA.reason == moves.promote("2", "champion", ADA).said["override"]["reason"]
    assert {} == rollout.barred()


def test_a_move_from_before_bars_were_told_is_finished_and_lifts_none(lake: Lake) -> None:
    moves = moves_of(lake)
    rows = moves.history()
    body = {
        "action": "promote", "version": "2", "bundle": "ab12", "to": "champion",
        "before": moves.aliases(), "after": AFTER, "decision": None,
        "override": {"name": "ada", "reason": "the gate was wrong"},
    }  # fmt: skip
    LedgerStore(lake.ledger).append(follow(rows, NAME, INTENT, rows[-1].time, "ada", body))
    assert moves.recover()
    assert AFTER == Registry(lake).aliases(NAME)
    assert {"2": ANSWERED} == RolloutStore(lake.rollouts, NAME).barred()
    assert [] == moves.verify()


def overridden(release: Release) -> None:
    """Version 2 is in the canary's plan, and no alias follows yet."""
    assert "epoch" in release.ask("start", "2")
    release.store.ask("now", "ada", "advance", None, "it is good", True)
    release.controller.tick()


def abort(release: Release) -> None:
    release.store.ask("now", "eve", "abort", None, "it is slow", False)
    release.controller.tick()


def test_a_release_that_ends_while_its_overridden_step_is_followed_leaves_its_bar(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    overridden(release)
    assert "canary" == release.plan.stage
    first_call(monkeypatch, Served, "decided", lambda: abort(release))
    release.controller.align()
    assert "aborted by eve: it is slow" == release.store.barred()["2"]
    assert {"champion": "1"} == Served(release.lake).aliases("clicks")
    assert "is barred (aborted by eve: it is slow)" in release.ask("start", "2")


def test_aliases_follow_the_plan_that_came_while_the_registry_was_asked(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    overridden(release)
    first_call(monkeypatch, Served, "standing", lambda: abort(release))
    release.controller.align()
    moved = LedgerStore(release.lake.ledger).rows("clicks")
    assert ["shadow", None] == [row.said["to"] for row in moved if row.kind == INTENT]
    assert "" == release.controller._refused
