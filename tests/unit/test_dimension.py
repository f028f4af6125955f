"""Dimensions: what holds when, what a row may say, and what a declaration may not."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.clock import HOUR, SystemClock, parse_time
from data_contracts.dimension import (
    AsOf,
    Dimension,
    DimensionRow,
    check_dimensions,
    with_attributes,
)
from data_contracts.lake import Lake
from data_contracts.oracle_dimension import oracle_attributes
from data_contracts.use_case import UseCase, load_use_case
from spark_jobs.attributes import PinnedDimensions
from spark_jobs.batch_start import BatchStart, last_begun
from spark_jobs.dimensions import Loaded, load_dimension, newest_version, stored_rows

WORLD = load_use_case("world")
ITEM = Dimension("item", key="item_id", attributes=("category",))
JANUARY = parse_time("2024-01-01T00:00:00Z")
SAID = {"item_id": "i1", "valid_from": "2024-01-01T00:00:00Z", "category": "c1"}


def test_a_row_holds_from_its_time_on_until_the_next_one() -> None:
    table = AsOf([DimensionRow("i1", 200, ("b",)), DimensionRow("i1", 100, ("a",))])
    assert [None, ("a",), ("a",), ("b",), ("b",)] == [
        table.at("i1", t) for t in (99, 100, 199, 200, 10**18)
    ]
    assert (None, None) == (table.at("i2", 200), table.at(None, 200))


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(-3, 3)), unique=True),
    st.sampled_from([*"abc", None]),
    st.integers(-4, 4),
)
def test_what_holds_is_what_the_oracle_finds(
    placed: list[tuple[str, int]], key: str | None, time: int
) -> None:
    rows = [DimensionRow(k, since, (f"{k}{since}",)) for k, since in placed]
    event = {"item_id": key, "event_time": time, "category": None}
    found = with_attributes((ITEM,), {"item": AsOf(rows)}, event, time)
    assert oracle_attributes(ITEM, rows, event) == found


def test_what_a_row_carries_itself_stays_and_what_is_null_is_taken() -> None:
    tables = {"item": AsOf([DimensionRow("i1", 0, ("c1",))])}
    carries = {"item_id": "i1", "category": "mine"}
    assert carries == with_attributes((ITEM,), tables, carries, 1)
    for lacking in ({"item_id": "i1"}, {"item_id": "i1", "category": None}):
        assert {"item_id": "i1", "category": "c1"} == with_attributes((ITEM,), tables, lacking, 1)


@pytest.mark.parametrize(
    "since",
    ["2024-01-01T00:00:00Z", datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)],
)
def test_a_time_is_text_or_a_timestamp_in_utc(since: Any) -> None:
    row = ITEM.row(WORLD.contract, {**SAID, "valid_from": since})
    assert DimensionRow("i1", JANUARY, ("c1",)) == row


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"item_id": None}, "item_id: required"),
        ({"item_id": 7}, "item_id: 7 is not a string"),
        ({"category": "c"}, "category: 'c' is shorter than 2"),
        ({"category": ["c1"]}, "category: .* is not a string"),
        ({"valid_from": None}, "valid_from: None is no time"),
        ({"valid_from": 1704067200000}, "valid_from: 1704067200000 is no time: give a timestamp"),
        ({"valid_from": "yesterday"}, "valid_from: "),
    ],
)
def test_a_row_that_breaks_the_contract_is_refused_by_its_column(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        ITEM.row(WORLD.contract, {**SAID, **changes})


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        ((replace(ITEM, name="Item"),), "dimension Item: its name must be lower-case"),
        ((replace(ITEM, attributes=()),), "name at least one, each once, no key"),
        ((replace(ITEM, attributes=("item_id",)),), "name at least one, each once, no key"),
        ((replace(ITEM, attributes=("colour",)),), "field 'colour' is not in"),
        ((replace(ITEM, attributes=("price",)),), "field 'price' is a number: name a string"),
        ((replace(ITEM, attributes=("event_type",)),), "'event_type' is every event's own"),
        ((replace(ITEM, key="category", attributes=("user_id",)),), "'user_id' is required of ev"),
        ((ITEM, replace(ITEM, attributes=("segment",))), "two share a name"),
        ((ITEM, replace(ITEM, name="other")), "attribute 'category' stands in two"),
        ((ITEM, Dimension("group", "category", ("segment",))), "not chained: name a field that"),
    ],
)
def test_a_declaration_that_cannot_be_right_names_dimension_and_field(
    declared: tuple[Dimension, ...], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        check_dimensions(declared, WORLD.contract)


def test_a_request_needs_the_key_of_the_dimension_and_not_the_attribute() -> None:
    assert ("user_id", "item_id", "category") == WORLD.entities
    assert ("user_id", "item_id") == WORLD.identity
    groups = tuple(group for group in WORLD.groups if group.name == "taste")
    alone = replace(WORLD, declared=replace(WORLD.declared, groups=groups))
    assert {"user_id", "item_id"} == {*alone.identity}
    assert "item_id" in alone.inputs


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "root", "world")


def load(lake: Lake, path: Path, text: str, use_case: UseCase = WORLD) -> Loaded:
    path.write_text(text)
    return load_dimension(use_case, lake, ITEM, path)


def test_loading_adds_what_is_new_and_all_or_nothing(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    first = '{"item_id": "i1", "valid_from": "2024-01-01T00:00:00Z", "category": "c1"}\n'
    later = '{"item_id": "i1", "valid_from": "2024-01-01T01:00:00Z", "category": "c2"}\n'
    other = '{"item_id": "i2", "valid_from": "2024-01-01T00:00:00Z", "category": null}\n'
    assert Loaded(rows=1, added=1, keys=1) == load(lake, path, first)
    assert Loaded(rows=3, added=2, keys=2) == load(lake, path, first + later + other)
    assert (1, Loaded(3, 0, 2)) == (
        newest_version(lake, ITEM), load(lake, path, other + first + later)
    )  # fmt: skip
    for refused, named in (
        (
            later.replace("c2", "c3"),
            r"row 2: dimension item: 'i1' from 2024-01-01T01:.* is \(",
        ),
        ("[1]\n", "row 2: dimension item: "),
        ("{\n", "items.jsonl: cannot be read"),
    ):
        with pytest.raises(ValueError, match=named):
            load(lake, path, other.replace("i2", "i3") + refused)
    with pytest.raises(ValueError, match=r"no row has .*, which dimension item declares"):
        load(lake, path, '{"item_id": "i3", "valid_from": "2024-01-01T00:00:00Z"}\n')
    assert 1 == newest_version(lake, ITEM)
    assert [DimensionRow("i1", JANUARY, ("c1",))] == stored_rows(lake, ITEM, 0)
    assert {
        DimensionRow("i1", JANUARY, ("c1",)),
        DimensionRow("i1", JANUARY + HOUR, ("c2",)),
        DimensionRow("i2", JANUARY, (None,)),
    } == set(stored_rows(lake, ITEM, 1))


def test_a_version_that_is_gone_and_a_table_of_another_key_are_named(
    lake: Lake, tmp_path: Path
) -> None:
    load(lake, tmp_path / "items.jsonl", '{"item_id": "i1", "valid_from": "2024-01-01T00:00:00Z", '
         '"category": "c1"}\n')  # fmt: skip
    with pytest.raises(ValueError, match=r"version 4, which a batch .*: restore the folder"):
        stored_rows(lake, ITEM, 4)
    with pytest.raises(ValueError, match="holds no user_id, the key of dimension item"):
        stored_rows(lake, replace(ITEM, key="user_id"), 0)


def test_a_batch_that_comes_again_reads_the_version_that_it_began_with(
    lake: Lake, tmp_path: Path
) -> None:
    path = tmp_path / "items.jsonl"
    row = '{"item_id": "i1", "valid_from": "2024-01-%s", "category": "%s"}\n'
    times = pa.array([JANUARY + 36 * HOUR], pa.timestamp("us", "UTC"))
    lacking = pa.array([None], pa.string())
    events = pa.table({"item_id": ["i1"], "category": lacking, "event_time": times})
    load(lake, path, row % ("01T00:00:00Z", "c1"))
    start = BatchStart(WORLD, lake, SystemClock())
    pinned = PinnedDimensions(WORLD, lake, start)
    assert [["c1"]] * 2 == [pinned.fill(events, seq)["category"].to_pylist() for seq in (1, 2)]
    load(lake, path, row % ("02T00:00:00Z", "c2"))
    restarted = PinnedDimensions(WORLD, lake, BatchStart(WORLD, lake, SystemClock()))
    for writer in (pinned, restarted):
        assert ["c1"] == writer.fill(events, 2)["category"].to_pylist()
    assert ["c2"] == pinned.fill(events, 3)["category"].to_pylist()
    begun = last_begun(lake)
    assert begun is not None
    assert {"item": 1} == begun.dimensions
