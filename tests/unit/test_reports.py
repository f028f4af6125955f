"""Reports of replicas that have ended become one, and no count changes by it."""

import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from data_contracts.rollout import Plan, Target
from data_contracts.rollout_store import Report, RolloutStore
from data_contracts.tally import Tally
from serving.metrics import exposition
from serving.reports import MANY, fold

PLAN = Plan(1, Target("1", "digest"))


@pytest.fixture
def store(tmp_path: Path) -> RolloutStore:
    store = RolloutStore(tmp_path / "rollouts.db", "clicks")
    store.add(PLAN)
    return store


def report(number: int, **changed: object) -> Report:
    tally = Tally()
    tally.answered(float(number), 20, 0.25 * number)
    tally.failed("timeout", 2.0 * number)
    body = {
        "at": time.time(),
        "ended": True,
        "epoch": 1,
        "answered": number,
        "statuses": {"200": number, f"{400 + number % 3}": 1},
        "spent_ms": {"features": 0.5 * number},
        "totals": {"champion": tally.as_dict()},
        "tallies": {PLAN.step: {"champion": tally.as_dict()}, "an older one": {}},
        "broken": {},
        "log_failures": number % 2,
        "memory": {"own": 1, "candidate": 0, "left": 1},
    }
    return Report(f"r{number % 5}", f"boot{number}", number, {**body, **changed})


def counted(store: RolloutStore) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = exposition(store, "clicks", time.time()).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_many_ended_replicas_counted_stays_the_same_in_one_report(store: RolloutStore) -> None:
    alive = report(MANY + 2, ended=False)
    silent = report(MANY + 3, ended=False, at=time.time() - 90_000)
    for each in (*map(report, range(1, MANY)), alive, silent):
        store.report(each)
    before = counted(store)
    fold(store, store.reports(), PLAN.step)
    folded, live = sorted(store.reports(), key=lambda r: r.replica)
    assert alive == live
    assert {PLAN.step} == {*folded.body["tallies"]}
    champion = Tally.from_dict(folded.body["tallies"][PLAN.step]["champion"])
    assert (2 * MANY, MANY) == (champion.requests, champion.failed_requests)
    after = counted(store)
    assert before.keys() == after.keys()
    assert [] == [name for name in before if before[name] != pytest.approx(after[name])]
    fold(store, store.reports(), PLAN.step)
    assert [folded, live] == sorted(store.reports(), key=lambda r: r.replica)


def test_one_that_speaks_again_meanwhile_keeps_all_apart(store: RolloutStore) -> None:
    for each in map(report, range(MANY)):
        store.report(each)
    known = store.reports()
    again = Report("r1", "boot1", 1_000, {**known[1].body, "ended": False})
    store.report(again)
    fold(store, known, PLAN.step)
    assert MANY == len(store.reports()) and again in store.reports()
