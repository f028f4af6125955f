"""What is read of a release's looks, however many there are."""

import json
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from data_contracts.rollout import Plan, Target, began
from data_contracts.rollout_store import Report, RolloutStore
from data_contracts.tally import UNEXPOSED, Tally
from serving.metrics import exposition
from serving.rollout_status import LOOKS, Drawn, history, status

MANY = 240
SUMS = {"total": 1.0, "weight": 2.0, "variance": 1.0, "level": 4.0, "units": [9, 9]}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the release of plan 2: looks 1 to 150 in epoch 2, the others in epoch 5."""
    path = tmp_path_factory.mktemp("store") / "rollouts.db"
    store = RolloutStore(path, "clicks")
    store.add(Plan(1, Target("1", "a")))
    store.add(began(Plan(1, Target("1", "a")), Target("2", "b"), {}))
    for number in range(1, MANY + 1):
        store.look(2, look(number, 2 if number <= 150 else 5))
    return path


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> RolloutStore:
    return RolloutStore(Path(copy(filled, tmp_path)), "clicks")


def look(number: int, epoch: int) -> dict[str, Any]:
    evidence = {"sums": {**SUMS, "impressions": number}, "margin": 0.05, "higher_is_better": True}
    check = {"name": "CTR so far", "interval": [-0.1, 0.1], "level": "required", "mode": "enforce"}
    check |= {"verdict": "pass", "kind": "no harm", "evidence": {"evidence": evidence}}
    time = f"2026-01-01T00:{number // 60:02}:{number % 60:02}.000000Z"
    said = {"checks": [check], "verdict": "pass"}
    return {"time": time, "epoch": epoch, "waits": str(number), "decision": said}


def numbers(looks: list[dict[str, Any]]) -> list[int]:
    return [int(look["waits"]) for look in looks]


def test_looks_are_sampled_evenly_and_with_the_last(store: RolloutStore) -> None:
    assert list(range(1, MANY + 1)) == numbers(store.looks(2))
    assert [1, 49, 97, 145, 193, 240] == numbers(store.looks(2, 5))
    assert list(range(1, MANY + 1)) == numbers(store.looks(2, MANY))
    assert [] == store.looks(3, 5)


def test_the_ends_of_the_last_epoch_are_its_first_look_and_the_last(store: RolloutStore) -> None:
    assert [151, 240] == numbers(store.ends(2))
    store.look(2, look(241, 6))
    assert [241, 241] == numbers(store.ends(2))
    assert [] == store.ends(3)
    assert (2, 241, 0) == (store.released(), store.looked(2), store.looked(3))


def test_the_last_plans_and_requests_are_the_last_ones_oldest_first(store: RolloutStore) -> None:
    for action in ("hold", "resume", "abort"):
        store.ask("now", "ada", action, None, "a test", False)
    assert ["resume", "abort"] == [request.action for request in store.requests(last=2)]
    assert [2] == [plan.epoch for plan in store.plans(1)]
    assert [1, 2] == [plan.epoch for plan in store.plans()]


def test_exposure_is_renewed_with_the_lease_and_only_if_its_holder_says_so(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "rollouts.db", "clicks")
    assert store.take("one", None) and 0 == store.exposure()
    assert store.renew("one") and store.renew("one", exposes=False)
    assert not store.renew("another")
    assert (("one", 3), 1) == (store.beat(), store.exposure())
    store.add(Plan(1, Target("1", "a")))
    told = exposition(store, "clicks", 0.0).decode()
    assert 'headrace_controller_beats_total{use_case="clicks"} 3.0' in told
    assert 'headrace_exposure_beats_total{use_case="clicks"} 1.0' in told


def test_errors_are_what_an_arm_was_asked_for_and_did_not_answer(store: RolloutStore) -> None:
    plan = store.plan()
    assert plan is not None
    tallies = {"champion": Tally(), "candidate": Tally()}
    tallies["champion"].answered(2.0, 1, 0.1)
    for arm, why in [("champion", "timeout"), ("candidate", "timeout"), ("candidate", UNEXPOSED)]:
        tallies[arm].failed(why, 2.0)
    counts = {arm: tally.as_dict() for arm, tally in tallies.items()}
    body = dict.fromkeys(("epoch", "champion", "busy", "answered"), 0)
    body |= dict.fromkeys(("shadow_scored", "shadow_dropped"), 0)
    store.report(Report("r", "b", 1, {**body, "tallies": {plan.step: counts}, "broken": {}}))
    arms = status(store)["arms"]
    champion, candidate = arms["champion"], arms["candidate"]
    assert (2, {"timeout": 1}, {}) == tuple(
        champion[name] for name in ("requests", "errors", "fallbacks")
    )
    assert (2, {"timeout": 1}, {"timeout": 1, UNEXPOSED: 1}) == tuple(
        candidate[name] for name in ("requests", "errors", "fallbacks")
    )


def test_an_arm_that_nobody_was_exposed_to_has_no_latency(store: RolloutStore) -> None:
    plan = store.plan()
    assert plan is not None
    unseen = Tally()
    unseen.failed(UNEXPOSED, 2.0)
    body = dict.fromkeys(("epoch", "champion", "busy", "answered"), 0)
    body |= dict.fromkeys(("shadow_scored", "shadow_dropped"), 0)
    tallies = {plan.step: {"candidate": unseen.as_dict()}}
    store.report(Report("r", "b", 1, {**body, "tallies": tallies, "broken": {}}))
    told = status(store)["arms"]["candidate"]
    assert (1, None, None) == (told["requests"], told["p50_ms"], told["p99_ms"])


def test_a_page_that_is_looked_at_again_reads_no_look_twice(
    store: RolloutStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    parse = json.loads

    def loads(text: str) -> Any:
        read.append(text)
        return parse(text)

    monkeypatch.setattr("data_contracts.rollout_store.json.loads", loads)
    drawn = Drawn(store)

    def polled() -> int:
        read.clear()
        told = (status(store), drawn.looks(), history(store, 20))
        assert "240" == told[0]["waits"]
        assert MANY == told[1][-1]["sequences"]["CTR"]["impressions"]
        return len(read)

    assert LOOKS // 2 < polled() < LOOKS
    assert 10 > polled()
    store.look(2, {**look(241, 5), "waits": "240"})
    assert 241 == drawn.looks()[-1]["sequences"]["CTR"]["impressions"]


def test_a_report_that_comes_late_does_not_replace_the_last_one(store: RolloutStore) -> None:
    for beat in (1, 3, 2):
        store.report(Report("late", "b", beat, {"ended": beat == 3}))
    (kept,) = [report for report in store.reports() if report.replica == "late"]
    assert Report("late", "b", 3, {"ended": True}) == kept


def test_a_bar_is_lifted_by_its_reason_alone(store: RolloutStore) -> None:
    store.add(Plan(3, Target("1", "a")), {"2": "too slow", "3": "too slow"})
    store.lift("2", "too bad")
    assert {"2": "too slow", "3": "too slow"} == store.barred()
    store.lift("2", "too slow")
    assert {"3": "too slow"} == store.barred()


def test_a_look_before_the_champion_s_first_click_draws_nothing(store: RolloutStore) -> None:
    unclicked = look(MANY + 1, 5)
    unclicked["decision"]["checks"][0]["evidence"]["evidence"]["sums"]["level"] = 0.0
    store.look(2, unclicked)
    assert {} == Drawn(store).looks()[-1]["sequences"]
