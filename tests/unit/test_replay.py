from typing import Any

from data_contracts.clock import DAY, HOUR, MINUTE, SECOND, format_time, parse_time
from data_contracts.use_case import load_use_case
from serving.replay import _steps

START = parse_time("2019-11-26T00:00:00Z")


def shown(name: str, at: int, late: int = 0) -> dict[str, Any]:
    """An impression at `at` µs after the start that arrived `late` µs after it happened."""
    return {
        "event_id": name,
        "event_type": "impression",
        "event_time": format_time(START + at),
        "arrived_at": format_time(START + at + late),
        "request_id": name,
        "user_id": "u",
        "item_id": "i",
    }


def test_an_event_is_sent_in_the_step_in_which_it_arrived_and_asked_for_when_it_happened() -> None:
    log = [
        shown("in time", 10 * SECOND),
        shown("an hour late", 5 * SECOND, late=HOUR),
        shown("a day late", 30 * MINUTE, late=DAY),
        shown("before it happened", HOUR + MINUTE, late=-30 * SECOND),
        shown("next", HOUR + 2 * SECOND),
    ]
    steps = _steps(load_use_case("clicks"), log, HOUR)
    sent = {(end - START) // HOUR: [e["event_id"] for e in step.events] for end, step in steps}
    assert {
        1: ["in time"],
        2: ["next", "an hour late", "before it happened"],
        25: ["a day late"],
    } == sent
    asked = {(end - START) // HOUR: [r["request_id"] for r in step.requests] for end, step in steps}
    assert {
        1: ["an hour late", "in time", "a day late"],
        2: ["next", "before it happened"],
        25: [],
    } == asked


def test_an_event_without_a_stamp_arrived_when_it_happened() -> None:
    event = shown("bare", 90 * MINUTE)
    del event["arrived_at"]
    ((end, step),) = _steps(load_use_case("clicks"), [event], HOUR)
    assert (START + 2 * HOUR, [event]) == (end, step.events)
