"""A Delta table takes each version of a writer once, gains columns, and refuses what is not one."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from spark_jobs.tables import append_once


def rows(**columns: list[object]) -> pa.Table:
    """A table of strings, of which `origin` never is null."""
    fields = [pa.field(name, pa.string(), nullable=name != "origin") for name in columns]
    return pa.table(columns, schema=pa.schema(fields))


def held(path: Path) -> list[dict[str, object]]:
    return sorted(DeltaTable(path).to_pyarrow_table().to_pylist(), key=repr)


def test_a_version_is_appended_once_and_each_writer_counts_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "clicks" / "events"
    append_once(rows(origin=["a"]), path, "stream-events", 1)
    append_once(rows(origin=["b"]), path, "stream-events", 2)
    append_once(rows(origin=["b"]), path, "stream-events", 2)
    append_once(rows(origin=["a"]), path, "stream-events", 1)
    append_once(rows(origin=["c"]), path, "stream-events-1", 1)
    assert held(path) == [{"origin": "a"}, {"origin": "b"}, {"origin": "c"}]


def test_columns_that_come_later_are_null_in_older_rows(tmp_path: Path) -> None:
    append_once(rows(origin=["a"]), tmp_path / "events", "stream", 1)
    append_once(rows(origin=["b"], colour=["red"]), tmp_path / "events", "stream", 2)
    append_once(rows(origin=["c"]), tmp_path / "events", "stream", 3)
    assert held(tmp_path / "events") == [
        {"origin": "a", "colour": None},
        {"origin": "b", "colour": "red"},
        {"origin": "c", "colour": None},
    ]


def test_a_null_where_none_may_be_is_refused_and_nothing_written(tmp_path: Path) -> None:
    path = tmp_path / "events"
    with pytest.raises(ValueError, match=f"{path}: origin would be null"):
        append_once(rows(origin=["a", None]), path, "stream", 1)
    assert not path.exists()


def test_a_table_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "events"
    append_once(rows(origin=["a"]), path, "stream", 1)
    log = path / "_delta_log" / f"{0:020}.json"
    log.write_text("torn")
    with pytest.raises(RuntimeError, match=f"^{path}: could not be appended to: ") as refused:
        append_once(rows(origin=["b"]), path, "stream", 2)
    assert "\n" not in str(refused.value)
    assert [file.name for file in log.parent.glob("*.json")] == [log.name]
