"""The use case outside the package: its folder loads, and its real log is imported as declared."""

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest

from data_contracts.clock import SECOND, day_of
from data_contracts.record import Event, parse_record
from data_contracts.use_case import UseCase, load_use_case
from tests.deskdrop_log import ARCHIVE, demand_log

CHECKOUT = Path(__file__).resolve().parents[2]

ROW = {
    "timestamp": "1465413032",
    "eventType": "COMMENT CREATED",
    "contentId": "-3499919498720038879",
    "personId": "-8845298781299428018",
    "sessionId": "1264196770339959068",
    "userAgent": "Mozilla/5.0 (Linux; Android 6.0.1; SM-G900M) AppleWebKit/537.36",
    "userRegion": "SP",
    "userCountry": "BR",
}


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    return load_use_case(str(CHECKOUT / "tests/usecases/deskdrop"))


@pytest.fixture(scope="module")
def events(use_case: UseCase) -> list[Event]:
    demand_log()
    with zipfile.ZipFile(ARCHIVE) as archive, archive.open(archive.namelist()[0]) as member:
        rows = csv.DictReader(io.TextIOWrapper(member, "utf-8", newline=""))
        return [
            parse_record(use_case.contract, json.dumps(event).encode())
            for row in rows
            for event in use_case.canonical(row)
        ]


def imported(use_case: UseCase, **changes: str) -> Event:
    (event,) = use_case.canonical(ROW | changes)
    return parse_record(use_case.contract, json.dumps(event).encode())


def test_a_row_becomes_one_event(use_case: UseCase) -> None:
    event = imported(use_case)
    assert len(event.pop("event_id")) == 32
    assert event == {
        "event_type": "comment",
        "event_time": 1465413032 * SECOND,
        "arrived_at": 1465413032 * SECOND,
        "user_id": "-8845298781299428018",
        "item_id": "-3499919498720038879",
        "session_id": "1264196770339959068",
        "platform": "android",
        "country": "BR",
        "region": "SP",
    }


def test_what_a_row_lacks_is_null(use_case: UseCase) -> None:
    event = imported(use_case, userAgent="", userRegion="", userCountry="")
    assert event["platform"] is event["region"] is event["country"] is None


@pytest.mark.parametrize("column", sorted(ROW))
def test_rows_that_differ_anywhere_get_different_ids(use_case: UseCase, column: str) -> None:
    changes = {"eventType": "LIKE", "userCountry": "CL", "userRegion": "MG"}
    changed = imported(use_case, **{column: changes.get(column, "1465413033")})
    assert imported(use_case)["event_id"] == imported(use_case)["event_id"]
    assert changed["event_id"] != imported(use_case)["event_id"]


def test_the_log_holds_eleven_rows_twice(events: list[Event]) -> None:
    assert len(events) == 72_312
    assert len({event["event_id"] for event in events}) == 72_312 - 11


def test_the_log_starts_on_the_declared_day(use_case: UseCase, events: list[Event]) -> None:
    first = min(event["event_time"] for event in events)
    assert day_of(first) == use_case.declared.start


def test_the_log_holds_the_declared_label_rows(use_case: UseCase, events: list[Event]) -> None:
    label = use_case.label
    first: dict[tuple[str, ...], int] = {}
    reactions: dict[tuple[str, ...], list[int]] = {}
    for event in events:
        pair, time = tuple(event[name] for name in label.first_per), event["event_time"]
        if event["event_type"] == label.on:
            first[pair] = min(time, first.get(pair, time))
        elif event["event_type"] in label.positive:
            reactions.setdefault(pair, []).append(time)
    positive = sum(
        any(row <= time <= row + label.window for time in reactions.get(pair, []))
        for pair, row in first.items()
    )
    assert len(first) == 40_241
    assert positive / len(first) == pytest.approx(0.172, abs=0.0005)
