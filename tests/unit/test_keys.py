"""One rule for the key of a row: exact, unambiguous, and the same for rows and for columns."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.keys import Key, key_in, key_of, parts_of, text_of
from spark_jobs.keys import key_array

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.text("1:a", max_size=5),
    st.sampled_from(["", " ", "\x00", "a\x00", "é", "e\u0301", "ﬁ", "𝒳", "\u200b", "1:", "null"]),
)
PARTS = st.one_of(TEXTS, st.integers(-(2**53), 2**53))


def test_keys_differ_where_any_code_point_differs() -> None:
    alike = ["é", "e\u0301", "É", "e", " e", "e ", "ｅ", "", " ", "\x00", "e\x00"]
    assert len(alike) == len({key_of(["user"], {"user": text}) for text in alike})
    assert alike == [key_of(["user"], {"user": text}) for text in alike]


def test_an_integer_counts_by_its_digits() -> None:
    assert ["0", "-7", "9007199254740992"] == [text_of(n) for n in (0, -7, 2**53)]


@pytest.mark.parametrize("row", [{"a": None, "b": "x"}, {"a": "x", "b": None}, {"b": "x"}, {}])
def test_a_row_that_lacks_a_part_belongs_to_no_key(row: dict[str, str | None]) -> None:
    assert key_in(["a", "b"], row) is None
    assert key_of(["a", "b"], row) is None


def test_a_part_that_is_empty_or_zero_is_a_part() -> None:
    assert "" == key_of(["a"], {"a": ""})
    assert "0" == key_of(["a"], {"a": 0})
    assert ("", 0) == key_in(["a", "b"], {"a": "", "b": 0})
    assert "0:0" == key_of(["a", "b"], {"a": "", "b": 0})


@given(st.tuples(TEXTS, TEXTS), st.tuples(TEXTS, TEXTS))
def test_no_text_stands_for_two_pairs(one: Key, other: Key) -> None:
    assert (one == other) == (text_of(one) == text_of(other))


@given(st.lists(PARTS, min_size=1, max_size=2))
def test_the_parts_come_back_out_of_the_text(parts: list[str | int]) -> None:
    key = tuple(parts) if len(parts) > 1 else parts[0]
    assert [str(part) for part in parts] == parts_of(text_of(key), len(parts))


@given(st.lists(st.tuples(st.none() | TEXTS, st.none() | st.integers(-(2**53), 2**53))))
def test_a_column_has_the_keys_of_its_rows(rows: list[tuple[str | None, int | None]]) -> None:
    named = [{"user": user, "item": item} for user, item in rows]
    schema = pa.schema([("user", pa.string()), ("item", pa.int64())])
    table = pa.Table.from_pylist(named, schema=schema)
    for fields in (["user"], ["item"], ["user", "item"], ["item", "user"]):
        expected = [key_of(fields, row) for row in named]
        assert expected == key_array(fields, table).to_pylist()
