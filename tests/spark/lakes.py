"""Small lakes for the tests of the Spark plane: events as JSON lines, landed at known moments."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

from pyspark.sql import SparkSession

from data_contracts.clock import ReplayClock, format_time, parse_time
from data_contracts.lake import Lake
from data_contracts.landing import landed_parts
from data_contracts.record import parse_record
from data_contracts.use_case import UseCase
from spark_jobs.landing import land
from spark_jobs.tables import exists, load

NOON = parse_time("2019-11-26T12:00:00Z")
ARRIVAL = parse_time("2019-12-01T00:00:00Z")
"""When the files of the tests landed."""


def copy_of(lake: Lake, root: Path) -> Lake:
    """The lake once more, below `root`, with its checkpoint and online state."""
    copytree(lake.root, root)
    return Lake(root, lake.use_case)


def impression(name: str, at: int, user: str = "u1", item: str = "i1", **more: Any) -> dict:
    """A canonical impression at `at` (µs) that arrived when it happened."""
    return {
        "event_id": name,
        "event_type": "impression",
        "event_time": format_time(at),
        "arrived_at": format_time(at),
        "user_id": user,
        "item_id": item,
        "request_id": name,
        "position": 1,
        "affinity": 0.25,
        **more,
    }


def click(of: str, at: int, user: str = "u1", item: str = "i1", **more: Any) -> dict:
    """A canonical click on impression `of` at `at` (µs)."""
    return {
        "event_id": f"{of}-click",
        "event_type": "click",
        "event_time": format_time(at),
        "arrived_at": format_time(at),
        "user_id": user,
        "item_id": item,
        "impression_id": of,
        **more,
    }


def to_line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event).encode()


def to_file(path: Path, events: Iterable[Mapping[str, Any] | bytes]) -> Path:
    """A file of JSON lines; bytes are taken as they are."""
    lines = [e if isinstance(e, bytes) else to_line(e) for e in events]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def land_at(lake: Lake, *files: Path, at: int = ARRIVAL) -> int:
    """Land files whose names then carry `at` (µs), so that two lakes get the same origins."""
    return land(lake, files, ReplayClock(at))


def typed(use_case: UseCase, events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Events as the oracle takes them: typed by the contract, times in µs."""
    return [parse_record(use_case.contract, to_line(event)) for event in events]


def rows_of(spark: SparkSession, path: Path) -> list[dict[str, Any]]:
    """All rows of a table in order of their origin; none where there is no table."""
    if not exists(spark, path):
        return []
    return load(spark, path).orderBy("origin", "line").toArrow().to_pylist()


def ended(spark: SparkSession, lake: Lake) -> dict[tuple[str, int], list[str]]:
    """(original file name, line) -> every table and verdict in which that record stands."""
    found: dict[tuple[str, int], list[str]] = {}
    for table in ("events", "duplicates", "quarantine"):
        for row in rows_of(spark, getattr(lake, table)):
            place = original(row["origin"]), row["line"]
            found.setdefault(place, []).append(row.get("verdict", table))
    return found


def original(origin: str) -> str:
    """The name of the file before it was landed."""
    parts = landed_parts(origin)
    return parts[2] if parts else origin


def versions(spark: SparkSession, lake: Lake) -> dict[str, int]:
    """Delta version of each table that the stream writes."""
    from delta.tables import DeltaTable

    tables = ("events", "duplicates", "quarantine")
    paths = {name: getattr(lake, name) for name in tables}
    return {
        name: DeltaTable.forPath(spark, str(path)).history(1).collect()[0]["version"]
        for name, path in paths.items()
        if exists(spark, path)
    }
