import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_contracts.gate_rules import RuleInForce
from data_contracts.gates import Decision, limit_check, made
from data_contracts.ledger import (
    DONE,
    INTENT,
    Row,
    aliases_after,
    faults,
    follow,
    open_intent,
    written,
)
from data_contracts.ledger_store import LedgerStore
from data_contracts.stages import MoveRefused, promoted

RULE = RuleInForce("latency p99", "offline", limit=5.0)
ADVISORY = RuleInForce("worst slice", "offline", "advisory")


def decided(value: float) -> dict[str, Any]:
    check = limit_check(RULE, "latency p99", value, 200, " ms")
    return Decision("first version", (check,)).as_dict()


def move(version: str, before: dict[str, str], value: float = 1.0) -> dict[str, Any]:
    return {
        "action": "promote", "version": version, "bundle": "ab", "to": "champion",
        "before": before, "after": promoted(before, version, "champion"),
        "decision": decided(value), "override": None,
    }  # fmt: skip


def ledger(*moves: dict[str, Any]) -> list[Row]:
    """Rows of moves that are done."""
    rows: list[Row] = []
    for said in moves:
        for kind, body in ((INTENT, said), (DONE, {"intent": len(rows) + 1})):
            time = f"2026-01-01T00:00:{len(rows):02}+00:00"
            rows.append(follow(rows, "clicks", kind, time, "ada", body))
    return rows


def sound() -> list[Row]:
    second = move("2", {"champion": "1"})
    return ledger(move("1", {}), second, move("3", second["after"]))


def rechained(rows: list[Row]) -> list[Row]:
    """The same rows under hashes of their own: what who edits a row would do."""
    again: list[Row] = []
    for row in rows:
        again.append(follow(again, row.model, row.kind, row.time, row.actor, row.said))
    return again


def edited(rows: list[Row]) -> list[Row]:
    changed = rows[2].body.replace('"version":"2"', '"version":"9"')
    return [*rows[:2], replace(rows[2], body=changed), *rows[3:]]


def signed_by_another(rows: list[Row]) -> list[Row]:
    return [replace(rows[0], actor="eve"), *rows[1:]]


def missing(rows: list[Row]) -> list[Row]:
    return [*rows[:2], *rows[3:]]


def swapped(rows: list[Row]) -> list[Row]:
    second, fourth = replace(rows[3], seq=2), replace(rows[1], seq=4)
    return [rows[0], second, rows[2], fourth, *rows[4:]]


def cut(rows: list[Row]) -> list[Row]:
    return rows[:4]


def emptied(rows: list[Row]) -> list[Row]:
    return []


def rewritten(rows: list[Row]) -> list[Row]:
    return rechained(edited(rows))


def lengthened(rows: list[Row]) -> list[Row]:
    return rows + ledger(*(row.said for row in rows if row.kind == INTENT), move("4", {}))[6:]


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (edited, "row 3: was edited"),
        (signed_by_another, "row 1: was edited"),
        (missing, "row 3: is missing"),
        (swapped, "row 2: does not follow the row before it"),
        (cut, "the tail is cut: the model was told of row 6, the ledger ends at 4"),
        (emptied, "the tail is cut: the model was told of row 6, the ledger ends at 0"),
        (rewritten, "row 6: is another than the model was told of"),
        (lengthened, "rows 7 to 8: the model was never told of them"),
    ],
)
def test_a_ledger_that_was_tampered_with_is_told_by_row(
    tamper: Callable[[list[Row]], list[Row]], told: str
) -> None:
    rows = sound()
    assert [] == faults(rows, rows[-1].stamp)
    for known in range(len(rows) + 1):
        assert [] == faults(rows, rows[-1].stamp, rows[:known])
        found = faults(tamper(rows), rows[-1].stamp, rows[:known])
        assert any(fault.startswith(told) for fault in found), "also of rows that were sound once"


def test_a_decision_that_its_evidence_does_not_lead_to_is_found_though_the_chain_holds() -> None:
    better = move("1", {})
    better["decision"]["checks"][0]["evidence"]["value"] = 9.0
    rows = ledger(better)
    assert [
        "row 1: its decision is not what its evidence leads to, or of another bundle",
        "row 1: was made without a passed gate and without an override",
    ] == faults(rows, rows[-1].stamp)


def test_a_decision_of_another_bundle_than_was_moved_is_found() -> None:
    own, other, older = (move("1", {}) for _ in range(3))
    own["decision"] = {**own["decision"], "bundle": "ab"}
    other["decision"] = {**other["decision"], "bundle": "cd"}
    assert [[], [], 1] == [
        faults(ledger(own), ledger(own)[-1].stamp),
        faults(ledger(older), ledger(older)[-1].stamp),
        len(faults(ledger(other), ledger(other)[-1].stamp)),
    ]


def test_a_move_against_its_gate_needs_an_override_with_a_name_and_a_reason() -> None:
    failed = move("1", {}, value=9.0)
    told = ["row 1: was made without a passed gate and without an override"]
    for override in (None, {"name": "", "reason": "hurry"}, {"name": "ada", "reason": ""}):
        rows = ledger({**failed, "override": override})
        assert told == faults(rows, rows[-1].stamp)
    rows = ledger({**failed, "override": {"name": "ada", "reason": "the sale begins"}})
    assert [] == faults(rows, rows[-1].stamp)


def test_a_move_from_aliases_that_no_move_led_to_is_found() -> None:
    rows = ledger(move("1", {}), move("3", {"champion": "2"}))
    assert ["row 3: begins from aliases that no move led to"] == faults(rows, rows[-1].stamp)


def test_a_move_that_does_not_lead_where_it_says_is_found() -> None:
    rows = ledger({**move("1", {}), "after": {"champion": "7"}})
    told = ["row 1: version 1 to champion does not lead to {'champion': '7'}"]
    assert told == faults(rows, rows[-1].stamp)


def test_evidence_keeps_its_order_on_which_a_tie_of_slices_rests() -> None:
    gap = {"value": 0.0, "low": 0.0, "high": 0.0, "n": 300}
    evidence = {"margin": 0.0, "parts": {"hour=9": gap, "hour=10": gap}}
    slices = made(ADVISORY, "worst slice", "slices", evidence)
    said = move("1", {})
    fast = limit_check(RULE, "latency p99", 1.0, 200, " ms")
    rows = ledger({**said, "decision": Decision("first version", (fast, slices)).as_dict()})
    assert [] == faults(rows, rows[-1].stamp)


def test_a_damaged_body_is_told_and_not_raised() -> None:
    rows = sound()
    rows[2] = replace(rows[2], body="{")
    told = faults(rows, rows[-1].stamp)
    assert any("row 3: its content cannot be read" in fault for fault in told)


def test_an_interrupted_move_is_open_and_no_fault() -> None:
    rows = sound()[:5]
    assert open_intent(rows) == rows[4]
    assert [] == faults(rows, rows[4].stamp) == faults(rows, rows[3].stamp)
    assert {"champion": "3", "previous_champion": "2"} == aliases_after(rows)
    assert {} == aliases_after([])


def test_a_body_has_no_number_that_json_lacks() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        written({"value": float("nan")})


def test_the_table_takes_a_row_of_each_number_once(tmp_path: Path) -> None:
    store, other = (LedgerStore(tmp_path / "ledger.db") for _ in range(2))
    rows = sound()
    assert [] == store.rows("clicks")
    store.append(rows[0])
    with pytest.raises(MoveRefused, match="another writer made move 1"):
        other.append(rows[0])
    other.append(rows[1])
    assert rows[:2] == store.rows("clicks")
    assert [] == store.rows("fraud")
    assert json.loads(rows[0].body) == store.rows("clicks")[0].said


def test_the_table_changes_and_deletes_no_row(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    LedgerStore(path).append(sound()[0])
    connection = sqlite3.connect(path)
    for statement in ("UPDATE moves SET actor = 'eve'", "DELETE FROM moves"):
        with pytest.raises(sqlite3.IntegrityError, match="rows are only added"):
            connection.execute(statement)
    connection.close()


def test_a_move_is_told_with_what_allowed_it() -> None:
    first, _, second, _ = ledger(move("1", {}), {**move("2", {}), "decision": None})
    told = {
        "row": 1, "time": "2026-01-01T00:00:00+00:00", "actor": "ada", "action": "promote",
        "version": "1", "to": "champion", "verdict": decided(1.0)["verdict"], "override": None,
    }  # fmt: skip
    assert told == first.told()
    assert (3, "2", None) == tuple(second.told()[name] for name in ("row", "version", "verdict"))
