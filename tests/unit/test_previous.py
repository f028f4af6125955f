"""Whom a rollback returns to, with no registry at all."""

from pathlib import Path
from typing import Any, cast

import pytest

from data_contracts.lake import Lake
from data_contracts.ledger import INTENT, follow
from data_contracts.ledger_store import LedgerStore
from data_contracts.moves import Moves
from data_contracts.rollout import Plan, Target
from data_contracts.rollout_store import RolloutStore
from data_contracts.stages import MoveRefused, promoted
from data_contracts.use_case import load_use_case
from serving.previous import previous

CLICKS = load_use_case("clicks")
TWO = Plan(1, Target("2", "2" * 64))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path, CLICKS.name)


def moved(lake: Lake, *versions: str, first: str = "") -> Moves:
    """Each became champion, one after the other, after `first`, whose move nobody wrote down."""
    aliases, rows = ({"champion": first} if first else {}), list[Any]()
    for version in versions:
        after = promoted(aliases, version, "champion")
        body = {"version": version, "bundle": version * 64, "before": aliases, "after": after}
        rows.append(follow(rows, CLICKS.name, INTENT, "now", "ada", body))
        LedgerStore(lake.ledger).append(rows[-1])
        aliases = after
    return Moves(cast(Any, None), lake, CLICKS)


def found(lake: Lake, moves: Moves) -> Target:
    return previous(TWO, RolloutStore(lake.rollouts, CLICKS.name), moves)


def test_a_champion_that_no_plan_served_is_known_from_its_move(lake: Lake) -> None:
    assert Target("1", "1" * 64) == found(lake, moved(lake, "3", "1", "2"))


def test_what_a_plan_served_last_is_what_is_returned_to(lake: Lake) -> None:
    store = RolloutStore(lake.rollouts, CLICKS.name)
    store.add(Plan(1, Target("1", "a" * 64)))
    store.add(Plan(2, TWO.champion))
    assert Target("1", "a" * 64) == found(lake, moved(lake, "1", "2"))


def test_one_whose_bundle_nothing_tells_is_refused_and_so_is_none(lake: Lake) -> None:
    with pytest.raises(MoveRefused, match="there is no previous champion to return to"):
        found(lake, moved(lake))
    told = "version 1: neither a plan nor a move tells its bundle: .* `headrace models demote 2`"
    with pytest.raises(MoveRefused, match=told):
        found(lake, moved(lake, "2", first="1"))
