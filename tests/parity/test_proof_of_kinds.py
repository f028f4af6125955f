"""The proof over every kind of aggregate, window, key and attribute: what is wrong in one of them
is found, and found in that one."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_contracts.clock import MINUTE, SECOND, format_time
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.world.log import write_world
from data_contracts.world.parameters import Parameters
from spark_jobs import proof
from spark_jobs.comparison import Mismatch, Outcome, rehearse
from spark_jobs.imports import canonical_events
from spark_jobs.proof import prove, read_log
from spark_jobs.rehearsal import Record
from spark_jobs.schedules import Batch, Log, Schedule
from tests.parity.mutants import MUTANTS
from tests.parity.mutants_of_kinds import OF_KINDS, OF_MANY
from tests.spark.lakes import NOON, to_line

SHOWN_BY = {
    **dict.fromkeys(MUTANTS, "sketch"),
    "all_that_a_state_holds": "taste",
    "wrong_tie": "taste",
    "newest_kept_by_arrival": "taste",
    "nulls_counted_as_zero": "taste",
    "expired_too_early": "user",
    "stale_backfill": "user",
    "least_of_two_is_the_greatest": "user",
    "cap_of_one": "user",
    "pending_ignored": "fading",
    "pending_folded_early": "fading",
    "event_pending_from_its_tile_on": "fading",
    "decay_a_hop_too_old": "fading",
    "state_removed_before_its_time": "fading",
    "a_tile_lost_in_the_codec": "fading",
}
"""Fault of any kind -> a group in which it shows soon, most of them in what sketches keep."""
del SHOWN_BY["default_forgotten"]  # no mean here has a default
SLOW = {"expired_too_early": pytest.mark.full}

KINDS = load_use_case(str(Path(__file__).parents[1] / "usecases/kinds"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> list[Mapping[str, Any]]:
    """2 000 records of the generated world (simulated)."""
    shop = tmp_path_factory.mktemp("world") / "shop"
    write_world(Parameters(2_000, seed=1), shop, lambda written: None)
    return [event for row in canonical_events(KINDS, shop) for _, event in row]


@pytest.fixture(scope="module")
def log(raw: list[dict[str, Any]]) -> Log:
    return read_log(KINDS, raw)


@pytest.fixture(autouse=True)
def unshrunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The first mismatch as it was found."""
    with monkeypatch.context() as patch:
        patch.setattr(proof, "shrunk", lambda use_case, schedule, mismatch, through: mismatch)
        yield


def alone(group: str) -> UseCase:
    """The use case with only this group."""
    groups = tuple(each for each in KINDS.groups if each.name == group)
    return replace(KINDS, declared=replace(KINDS.declared, groups=groups))


def first(group: str, log: Log, schedules: int = 30) -> Mismatch | None:
    """What the proof of a group finds."""
    found = prove(alone(group), log, schedules, seed=1).outcome.mismatches
    return found[0] if found else None


@pytest.mark.parametrize("group", [group.name for group in KINDS.groups])
def test_every_engine_gives_the_oracles_values(group: str, log: Log) -> None:
    found = prove(alone(group), log, 4, seed=1)
    assert [] == [mismatch.told() for mismatch in found.outcome.mismatches]
    assert found.outcome.compared.total() > 3_000


@pytest.mark.parametrize("name", OF_KINDS)
def test_a_fault_of_one_kind_is_found_in_what_it_breaks(
    name: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = OF_KINDS[name]
    fault.plant(monkeypatch)
    shown = first(fault.group, log)
    assert shown is not None
    assert fault.breaks in shown.feature


@pytest.mark.parametrize(
    ("name", "group"),
    [pytest.param(*pair, id=pair[0], marks=SLOW.get(pair[0], ())) for pair in SHOWN_BY.items()],
)
def test_a_fault_of_any_kind_is_found_in_these_groups_too(
    name: str, group: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS[name](monkeypatch)
    assert first(group, log) is not None


def long_session() -> Schedule:
    """An hour and a half in which a user is shown another item every 12 s."""
    events = [
        {
            "event_id": f"e{i}", "event_type": "impression", "user_id": "u1", "item_id": f"i{i}",
            "event_time": (at := format_time(NOON + 12 * i * SECOND)), "arrived_at": at,
            "position": 1 + i % 5, "device": "mobile", "category": "c1", "price": 1 + i % 40 / 4,
        }
        for i in range(450)
    ]  # fmt: skip
    records = [Record("log.jsonl", i, to_line(event)) for i, event in enumerate(events, 1)]
    batches = (
        Batch(tuple(records[:300:2]), reads=True),
        Batch(tuple(records[300:]), killed="between"),
        Batch(tuple(records[1:300:2]), upkeep=True),
    )
    return Schedule(batches, {("user_id",): ("u1",)}, (), (NOON + 95 * MINUTE,), "sketch_items_1h")


def of_many() -> Outcome:
    return rehearse(alone("sketch"), long_session())


def test_a_long_session_of_many_items_is_the_oracles() -> None:
    outcome = of_many()
    assert [] == [mismatch.told() for mismatch in outcome.mismatches]
    assert outcome.non_default["sketch_items_lifetime"] > 50


@pytest.mark.parametrize("name", OF_MANY)
def test_a_fault_that_takes_many_events_is_found_in_what_it_breaks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    OF_MANY[name].plant(monkeypatch)
    shown = {mismatch.feature for mismatch in of_many().mismatches}
    assert shown
    assert {each for each in shown if OF_MANY[name].breaks in each} == shown
