"""A raw log of any readable kind becomes canonical events, one file a day."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.clock import HOUR, MINUTE, SECOND, format_time
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs import imports
from spark_jobs.imports import Imported, import_log

ROWS = [
    {"id": "c", "at": "2019-11-25T00:10:00.000000Z"},
    {"id": "b", "at": "2019-11-24T09:00:00.000000Z"},
    {"id": "a", "at": "2019-11-24T09:00:00.000000Z"},
    {"id": "d", "at": "2019-11-24T08:00:00.000000Z"},
]


def canonical(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"event_id": row["id"], "event_time": row["at"], "note": "a\u2028b\u0085ü"}


@pytest.fixture
def use_case(clicks: UseCase) -> UseCase:
    copy = replace(clicks)
    vars(copy)["canonical"] = canonical
    return copy


def csv_of(rows: list[dict[str, str]]) -> bytes:
    return "\r\n".join(["id,at", *(f"{row['id']},{row['at']}" for row in rows)]).encode()


def written(rows: list[dict[str, str]], path: Path) -> Path:
    """`rows` in the format that the suffix of `path` says."""
    match path.name.split(".", 1)[1].lower():
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case "csv":
            path.write_bytes(csv_of(rows))
        case "csv.zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("log.csv", csv_of(rows))
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().removesuffix(b"\n").split(b"\n")


@pytest.mark.parametrize(
    "name", ["l.parquet", "l.csv", "l.csv.zip", "l.jsonl", "L.PARQUET", "L.CSV"]
)
def test_every_readable_kind_gives_the_same_days_in_order_of_time(
    use_case: UseCase, lake: Lake, tmp_path: Path, name: str
) -> None:
    imported = import_log(use_case, lake, written(ROWS, tmp_path / name))
    assert (4, 4) == (imported.rows, imported.events)
    days = {p.stem: [json.loads(x)["event_id"] for x in lines_of(p)] for p in imported.days}
    assert {"2019-11-24": ["d", "b", "a"], "2019-11-25": ["c"]} == days


def test_a_folder_is_read_file_by_file_and_an_old_import_is_replaced(
    use_case: UseCase, lake: Lake, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    written(ROWS[:1], folder / "1.jsonl")
    written(ROWS[1:], folder / "2.csv")
    (folder / "readme.txt").write_text("not a log")
    assert 2 == len(import_log(use_case, lake, folder).days)
    again = import_log(use_case, lake, written(ROWS[1:], tmp_path / "less.jsonl"))
    assert [lake.imported / "2019-11-24.jsonl"] == list(again.days) == list(lake.imported.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.parquet", None, r"none\.parquet: no such file or folder"),
        ("empty.csv", b"", r"empty\.csv: holds no event"),
        ("empty.jsonl", b"", r"empty\.jsonl: holds no event"),
        ("log.txt", b"text", r"log\.txt: holds no log: one of \.parquet, \.csv"),
        ("torn.parquet", b"PAR1 torn", r"torn\.parquet: cannot be read as \.parquet"),
        ("torn.csv.zip", b"PK torn", r"torn\.csv\.zip: cannot be read as \.zip"),
        ("torn.jsonl", b'{"id": ', r"torn\.jsonl: cannot be read as \.jsonl"),
        ("latin.csv", b"id,at\n\xff,\xff\n", r"latin\.csv: cannot be read as \.csv"),
        ("nul.csv", b'id,at\na,"' + b"x" * 200_000, r"nul\.csv: cannot be read as \.csv"),
        ("list.jsonl", b"[1]\n", r"list\.jsonl: row 1: the importer of clicks refuses it"),
        ("columns.csv", b"id,when\n1,2\n", r"columns\.csv: row 1: .*KeyError\('at'\)"),
        ("time.csv", b"id,at\n1,2019-11-24T09:00:00Z\n1,noon\n", r"time\.csv: row 2: .*noon"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused_by_name(
    use_case: UseCase, lake: Lake, tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        import_log(use_case, lake, tmp_path / name)


def test_an_archive_without_a_member_is_refused_by_name(
    use_case: UseCase, lake: Lake, tmp_path: Path
) -> None:
    zipfile.ZipFile(tmp_path / "bare.csv.zip", "w").close()
    with pytest.raises(ValueError, match=r"bare\.csv\.zip: cannot be read as \.zip"):
        import_log(use_case, lake, tmp_path / "bare.csv.zip")


def test_the_clicks_importer_names_the_row_of_a_log_of_another_shape(
    clicks: UseCase, lake: Lake, tmp_path: Path
) -> None:
    log = tmp_path / "obd.csv"
    log.write_text("timestamp,policy,row,user_id,item_id\n2019-11-24,random,1,u,i\n")
    with pytest.raises(ValueError, match=r"obd\.csv: row 1: the importer of clicks refuses it"):
        import_log(clicks, lake, log)


@pytest.mark.parametrize(
    ("attribution", "expected"),
    [
        (5 * MINUTE, ["2019-11-25"]),
        (10 * MINUTE, ["2019-11-25"]),
        (11 * MINUTE, ["2019-11-24", "2019-11-25"]),
        (26 * HOUR, ["2019-11-24", "2019-11-25"]),
    ],
)
def test_days_are_held_out_from_the_one_on_which_labels_last_mature(
    use_case: UseCase, lake: Lake, tmp_path: Path, attribution: int, expected: list[str]
) -> None:
    imported: Imported = import_log(use_case, lake, written(ROWS, tmp_path / "log.jsonl"))
    assert expected == [day.stem for day in imported.held_out(attribution)]


def test_a_log_beyond_one_run_is_the_same_days(
    use_case: UseCase, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": f"{i}", "at": format_time((i * 7919) % 97 * HOUR)} for i in range(500)]
    log = written(rows, tmp_path / "log.jsonl")
    whole = import_log(use_case, lake, log)
    expected = {day.name: day.read_bytes() for day in whole.days}
    monkeypatch.setattr(imports, "RUN_CHARACTERS", 1000)
    runs = import_log(use_case, lake, log)
    assert whole == runs
    assert expected == {day.name: day.read_bytes() for day in lake.imported.iterdir()}
    times = [json.loads(line)["event_time"] for day in runs.days for line in lines_of(day)]
    assert sorted(times) == times
    assert whole.days[-2:] == runs.held_out(HOUR)


@pytest.mark.full
def test_an_import_of_any_size_takes_the_memory_of_one_run(lake: Lake, tmp_path: Path) -> None:
    """Peak memory of a process of its own that imports 300 MB, above that of a small one."""
    program = (
        "import resource, sys; from pathlib import Path; from data_contracts.lake import Lake;"
        "from data_contracts.use_case import load_use_case;"
        "from spark_jobs.imports import import_log;"
        "import_log(load_use_case('world'), Lake(Path(sys.argv[1]), 'world'), Path(sys.argv[2]));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks: list[int] = []
    for count in (1_000, 1_000_000):
        log = tmp_path / f"{count}.jsonl"
        with open(log, "w", encoding="utf-8") as file:
            for i in range(count):
                at = format_time((i * 7919) % count * SECOND)
                file.write(f'{{"event_id": "{i:0200d}", "event_time": "{at}"}}\n')
        command = [sys.executable, "-c", program, str(lake.root), str(log)]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 150_000, "kB"


def test_the_embedded_log_imports_whole(clicks: UseCase, lake: Lake) -> None:
    assert clicks.log is not None
    imported = import_log(clicks, lake, clicks.log)
    assert 20_000 == imported.rows
    assert [f"2019-11-{day}" for day in range(24, 31)] == [path.stem for path in imported.days]
    lines = [line for path in imported.days for line in lines_of(path)]
    assert imported.events == len(lines)
    assert sorted(lines, key=lambda line: json.loads(line)["event_time"]) == lines
