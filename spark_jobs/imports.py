"""Raw logs become canonical events: JSON lines, one file a day, by the use case's importer."""

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from data_contracts.clock import DAY, day_of, parse_time
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase

READABLE = (".parquet", ".csv", ".csv.zip", ".jsonl")

RUN_CHARACTERS = 32 * 1024 * 1024
"""What an import sorts in memory at a time; a run beyond goes to the disk."""

_BLOCK = 64 * 1024
_TIME = itemgetter(0)


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
    rows = count = 0
    lake.imported.mkdir(parents=True, exist_ok=True)
    for left_by_a_kill in lake.imported.glob(".import-*"):
        rmtree(left_by_a_kill)
    with TemporaryDirectory(dir=lake.imported, prefix=".import-") as place:
        runs = _Runs(Path(place))
        for events in canonical_events(use_case, log):
            rows += 1
            for time, event in events:
                runs.add(time, _line(event))
                count += 1
            if on_progress and not rows % 1000:
                on_progress(rows)
        if not count:
            raise ValueError(f"{log}: holds no event: give the file or folder of the raw log")
        return Imported(rows, count, _moved(_days(runs.merged(), Path(place)), lake.imported))


def canonical_events(use_case: UseCase, log: Path) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """(event time in µs, canonical event) of the events of each row of a raw log.

    Raises ValueError as `import_log` does.
    """
    for path in readable_files(log):
        for number, row in enumerate(file_rows(path), 1):
            try:
                yield [(parse_time(e["event_time"]), e) for e in use_case.canonical(row)]
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{path}: row {number}: the importer of {use_case.name} refuses it: {error!r}"
                ) from error


def _line(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


class _Runs:
    """Lines by time, of which memory holds one run; the others lie sorted in files of `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: list[Path] = []
        self._run: list[tuple[int, str]] = []
        self._size = 0

    def add(self, time: int, line: str) -> None:
        self._run.append((time, line))
        self._size += len(line)
        if self._size >= RUN_CHARACTERS:
            path = self._folder / f"{len(self._paths)}.run"
            with open(path, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{time} {line}\n" for time, line in self._sorted())
            self._paths.append(path)
            self._run, self._size = [], 0

    def merged(self) -> Iterator[tuple[int, str]]:
        """All of them in order of time, ties in the order in which they were added."""
        with ExitStack() as stack:
            opened = [
                stack.enter_context(open(path, encoding="utf-8", newline="\n"))
                for path in self._paths
            ]
            yield from merge(*map(_timed, opened), self._sorted(), key=_TIME)

    def _sorted(self) -> list[tuple[int, str]]:
        return sorted(self._run, key=_TIME)


def _timed(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    for line in lines:
        time, _, event = line.removesuffix("\n").partition(" ")
        yield int(time), event


def _days(lines: Iterator[tuple[int, str]], folder: Path) -> list[Path]:
    """Write lines in order of time into a file a day, oldest first."""
    paths: list[Path] = []
    for day, of_day in groupby(lines, key=lambda timed: day_of(timed[0])):
        paths.append(folder / f"{day}.jsonl")
        with open(paths[-1], "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for _, line in of_day)
    return paths


def _moved(paths: Sequence[Path], folder: Path) -> tuple[Path, ...]:
    """Put the files into the folder, in place of those that lie there."""
    for stale in folder.glob("*.jsonl"):
        stale.unlink()
    return tuple(path.rename(folder / path.name) for path in paths)


def readable_files(log: Path) -> list[Path]:
    """The raw files of a file or folder; ValueError where there is none."""
    if not log.exists():
        raise ValueError(f"{log}: no such file or folder: give the raw log")
    found = sorted(log.iterdir()) if log.is_dir() else [log]
    files = [p for p in found if p.is_file() and p.name.lower().endswith(READABLE)]
    if not files:
        raise ValueError(f"{log}: holds no log: one of {', '.join(READABLE)} is needed")
    return files


def file_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a raw file; ValueError naming one that cannot be read."""
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


def _last_line(path: Path) -> bytes:
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        tail = b""
        while b"\n" not in tail.removesuffix(b"\n") and end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            tail, end = file.read(end - start) + tail, start
    return tail.removesuffix(b"\n").rsplit(b"\n", 1)[-1]
