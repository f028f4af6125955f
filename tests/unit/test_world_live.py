"""The world answers live: its users click on a served ranking by the model of its log."""

from dataclasses import replace
from itertools import islice, takewhile

import numpy as np
import pytest

from data_contracts.clock import DAY, HOUR, SECOND, parse_time
from data_contracts.record import check_event
from data_contracts.use_case import load_use_case
from data_contracts.world.generator import ORIGINAL, records
from data_contracts.world.live import Answer, Visit, World
from data_contracts.world.parameters import Parameters

PARAMETERS = Parameters(20_000, seed=11)
ITEMS = [f"i{n}" for n in (3, 250, 17, 42, 8)]
START = PARAMETERS.origin + 10 * HOUR


def visit(n: int = 0, **changes: object) -> Visit:
    return replace(Visit(f"request-{n}", "u7", "mobile", START + n * 40 * SECOND), **changes)


def session(world: World) -> list[Answer]:
    return [world.answer(visit(n), ITEMS[n % 5 :] + ITEMS[: n % 5]) for n in range(40)]


def test_answers_are_those_of_the_seed_and_the_request_ids() -> None:
    found = session(World(PARAMETERS))
    assert found == session(World(PARAMETERS))
    assert found != session(World(replace(PARAMETERS, seed=12)))


def test_the_visits_of_the_world_with_the_logged_ranking_are_clicked_as_in_the_log() -> None:
    world, until = World(PARAMETERS), PARAMETERS.origin + 2 * DAY
    found = {
        (v.request_id, position): (p, clicked)
        for v in takewhile(lambda v: v.event_time < until, world.visits())
        for ranking in [[c["item_id"] for c in world.candidates(v)]]
        for answer in [world.answer(v, ranking)]
        for position, (p, clicked) in enumerate(zip(answer.p_true, answer.clicked, strict=True), 1)
    }
    log = np.concatenate(list(records(PARAMETERS)))
    log = log[(log["kind"] == 0) & (log["copy"] == ORIGINAL) & (log["time"] < until)]
    expected = {
        (f"p{row['page']}", int(row["position"])): (float(row["p"]), bool(row["clicked"]))
        for row in log
    }
    assert len(expected) > 1_000
    assert expected == found


def test_what_users_do_is_calibrated() -> None:
    world = World(PARAMETERS)
    p, clicked = [], []
    for v in islice(world.visits(PARAMETERS.origin + 4 * DAY), 3_000):
        ranking = sorted(c["item_id"] for c in world.candidates(v))
        answer = world.answer(v, ranking)
        p += answer.p_true
        clicked += answer.clicked
    chance = np.array(p)
    off = np.sum(clicked) - chance.sum()
    assert abs(off) < 4 * np.sqrt((chance * (1 - chance)).sum())


def test_a_visit_starts_where_it_is_asked_to() -> None:
    start = PARAMETERS.origin + 3 * DAY + 5 * HOUR
    times = [v.event_time for v in islice(World(PARAMETERS).visits(start), 200)]
    assert sorted(times) == times
    assert start <= times[0] < start + HOUR
    everyone = World(PARAMETERS).visits()
    late = [v for v in islice(everyone, 2_000) if v.event_time >= start][:100]
    assert late == list(islice(World(PARAMETERS).visits(start), len(late)))


def test_history_counts_what_the_world_was_shown_and_clicked() -> None:
    tired, fresh = World(PARAMETERS), World(PARAMETERS)
    before, later = tired.answer(visit(0), [f"i{n}" for n in range(100, 110)]), visit(14)
    clicks = sum(
        event["event_type"] == "click" and parse_time(event["event_time"]) < later.event_time
        for event in before.events
    )
    drop = _logits(tired.answer(later, ITEMS)) - _logits(fresh.answer(later, ITEMS))
    expected = PARAMETERS.appetite * min(clicks, 3) - PARAMETERS.fatigue * 10
    np.testing.assert_allclose(drop, expected, rtol=1e-6)


def _logits(answer: Answer) -> np.ndarray:
    p = np.array(answer.p_true)
    return np.log(p / (1 - p))


def test_the_same_request_again_is_the_same_answer_and_counts_once() -> None:
    once, twice = World(PARAMETERS), World(PARAMETERS)
    assert once.answer(visit(), ITEMS) == twice.answer(visit(), ITEMS)
    assert twice.answer(visit(), ITEMS) == once.answer(visit(), ITEMS)
    assert once.answer(visit(1), ITEMS) == twice.answer(visit(1), ITEMS)


def test_the_events_keep_the_contract_and_name_the_request() -> None:
    contract = load_use_case("world").contract
    world = World(PARAMETERS)
    odd = visit(request_id='a "quoted"\\ id')
    for answer in (*session(world), world.answer(replace(odd, event_time=START + HOUR), ITEMS)):
        times = [check_event(contract, event)["event_time"] for event in answer.events]
        assert sorted(times) == times
        shown = [e for e in answer.events if e["event_type"] == "impression"]
        assert sum(answer.clicked) == sum(e["event_type"] == "click" for e in answer.events)
        assert len(answer.p_true) == len(shown)
    assert {odd.request_id} == {event["request_id"] for event in shown}


def test_candidates_carry_every_input_of_the_model() -> None:
    world = World(PARAMETERS)
    (first,) = islice(world.visits(), 1)
    assert {frozenset(load_use_case("world").inputs)} == {
        frozenset(candidate) for candidate in world.candidates(first)
    }


@pytest.mark.parametrize(
    ("changes", "ranking", "named"),
    [
        ({"user_id": "u999999"}, ITEMS, "'u999999': this world has u0 to u249"),
        ({"user_id": "bob"}, ITEMS, "'bob'"),
        ({"device": "toaster"}, ITEMS, "'toaster'"),
        ({"event_time": PARAMETERS.origin - 1}, ITEMS, "outside of"),
        ({"event_time": START - HOUR - 1}, ITEMS, "in order of time"),
        ({}, ["i300"], "'i300'"),
        ({}, ["i1", "i1"], "each only once"),
        ({}, [], "at least one item"),
        ({"request_id": "known"}, ITEMS[:2], "another visit or ranking"),
    ],
)
def test_what_cannot_be_answered_is_named(
    changes: dict[str, object], ranking: list[str], named: str
) -> None:
    world = World(PARAMETERS)
    world.answer(visit(request_id="known"), ITEMS)
    with pytest.raises(ValueError, match=named):
        world.answer(visit(**changes), ranking)
