"""Raw logs become canonical events: JSON lines, one file a day, by the use case's importer."""

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_contracts.clock import DAY, day_of, parse_time
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase

READABLE = (".parquet", ".csv", ".csv.zip", ".jsonl")


@dataclass(frozen=True)
class Imported:
    """What an import wrote."""

    rows: int
    events: int
    days: tuple[Path, ...]
    """The daily files, oldest first."""

    def held_out(self, attribution: int) -> tuple[Path, ...]:
        """The last days: from the one on which labels with that window (µs) last mature."""
        last = json.loads(_last_line(self.days[-1]))["event_time"]
        first = day_of((parse_time(last) - attribution) // DAY * DAY)
        return tuple(day for day in self.days if day.stem >= first)


def import_log(
    use_case: UseCase,
    lake: Lake,
    log: Path,
    on_progress: Callable[[int], None] | None = None,
) -> Imported:
    """Import the raw `log` (a file, or a folder of them) into `lake.imported`, replacing it.

    Within a day events stand in order of time, ties in order of the log. Raises ValueError naming
    the file for a log that cannot be read, and the row for one that the importer refuses.
    """
    days: dict[str, list[tuple[int, int, str]]] = {}
    rows = count = 0
    for events in canonical_events(use_case, log):
        rows += 1
        for time, event in events:
            days.setdefault(day_of(time), []).append((time, count, _line(event)))
            count += 1
        if on_progress and not rows % 1000:
            on_progress(rows)
    if not count:
        raise ValueError(f"{log}: holds no event: give the file or folder of the raw log")
    return Imported(rows, count, _write(lake.imported, days))


def canonical_events(use_case: UseCase, log: Path) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """(event time in µs, canonical event) of the events of each row of a raw log.

    Raises ValueError as `import_log` does.
    """
    for path in _files(log):
        for number, row in enumerate(_rows(path), 1):
            try:
                yield [(parse_time(e["event_time"]), e) for e in use_case.canonical(row)]
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{path}: row {number}: the importer of {use_case.name} refuses it: {error!r}"
                ) from error


def _line(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _write(folder: Path, days: Mapping[str, list[tuple[int, int, str]]]) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.jsonl"):
        stale.unlink()
    paths = []
    for day in sorted(days):
        path = folder / f"{day}.jsonl"
        part = path.with_suffix(".part")
        part.write_text("".join(line + "\n" for _, _, line in sorted(days[day])), "utf-8")
        os.replace(part, path)
        paths.append(path)
    return tuple(paths)


def _files(log: Path) -> list[Path]:
    if not log.exists():
        raise ValueError(f"{log}: no such file or folder: give the raw log")
    found = sorted(log.iterdir()) if log.is_dir() else [log]
    files = [p for p in found if p.is_file() and p.name.lower().endswith(READABLE)]
    if not files:
        raise ValueError(f"{log}: holds no log: one of {', '.join(READABLE)} is needed")
    return files


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            for batch in pq.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
        elif suffix == ".jsonl":
            with open(path, encoding="utf-8") as lines:
                yield from map(json.loads, lines)
        elif suffix == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
                yield from csv.DictReader(io.TextIOWrapper(member, "utf-8"))
        else:
            with open(path, encoding="utf-8", newline="") as lines:
                yield from csv.DictReader(lines)
    except Exception as error:
        # Each reading library has its own kinds of error for a broken file.
        raise ValueError(f"{path}: cannot be read as {suffix}: {error}") from error


def _last_line(path: Path) -> str:
    return path.read_text("utf-8").removesuffix("\n").rsplit("\n", 1)[-1]
