"""Which gated records become events: the first of an id is one, the same again is a duplicate,
the same id with another content is a conflict. Judged against events of a lower seq only."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from data_contracts.lake import Lake
from spark_jobs.tables import exists, load

Row = dict[str, Any]

_KEPT = ("origin", "line", "payload")


@dataclass(frozen=True)
class Admission:
    """One micro-batch, every record in exactly one list."""

    events: pa.Table
    duplicates: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)


class SeenEvents:
    """event_id -> (payload digest, origin, line) of every event below the next seq."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, str, int]] = {}

    def add(self, events: pa.Table) -> None:
        """Remember the events of a committed batch."""
        columns = [events[name].to_pylist() for name in ("event_id", "digest", "origin", "line")]
        self._seen.update((i, (d, o, n)) for i, d, o, n in zip(*columns, strict=True))

    def admit(self, gated: pa.Table, seq: int) -> Admission:
        """Sort the records of batch `seq` (schema `gated_schema`) into their lists."""
        gated = gated.sort_by([("origin", "ascending"), ("line", "ascending")])
        refused = gated.filter(gated["reasons"].is_valid())
        good = gated.filter(gated["reasons"].is_null())
        quarantine = [
            _quarantined(row, row["verdict"], row["reasons"], seq)
            for row in refused.select([*_KEPT, "verdict", "reasons"]).to_pylist()
        ]
        duplicates: list[Row] = []
        batch: dict[str, tuple[str, str, int]] = {}
        keep: list[int] = []
        for i, row in enumerate(_identities(good)):
            first = self._seen.get(row["event_id"]) or batch.get(row["event_id"])
            if first is None:
                batch[row["event_id"]] = (row["digest"], row["origin"], row["line"])
                keep.append(i)
            elif first[0] == row["digest"]:
                kept = {k: row[k] for k in ("origin", "line", "event_id")}
                duplicates.append({**kept, "seq": seq})
            else:
                reason = f"event_id: {row['event_id']!r} differs from {first[1]}:{first[2]}"
                late = {**row, "payload": good["payload"][i].as_py()}
                quarantine.append(_quarantined(late, "conflict", reason, seq))
        events = good.take(pa.array(keep, pa.int64())).drop_columns(
            ["payload", "verdict", "reasons"]
        )
        events = events.append_column("seq", pa.array([seq] * len(keep), pa.int64()))
        return Admission(events, duplicates, quarantine)


def seen_events(spark: SparkSession, lake: Lake, below_seq: int) -> SeenEvents:
    """Those of the events table of a lower seq."""
    seen = SeenEvents()
    if exists(spark, lake.events):
        known = load(spark, lake.events).where(f"seq < {below_seq}")
        seen.add(known.select("event_id", "digest", "origin", "line").toArrow())
    return seen


def _identities(good: pa.Table) -> Iterable[Row]:
    return good.select(["event_id", "digest", "origin", "line"]).to_pylist()


def _quarantined(row: Row, verdict: str, reasons: str, seq: int) -> Row:
    kept = {k: row[k] for k in _KEPT}
    return {**kept, "verdict": verdict, "reasons": reasons, "seq": seq}
