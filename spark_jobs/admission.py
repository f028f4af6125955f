"""Which gated records become events: the first of an id is one, the same again is a duplicate,
the same id with another content is a conflict. Judged against events of a lower seq only."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from spark_jobs.seen_events import Place, SeenEvents

Row = dict[str, Any]

_KEPT = ("origin", "line", "payload")


@dataclass(frozen=True)
class Admission:
    """One micro-batch, every record in exactly one list."""

    events: pa.Table
    duplicates: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)


def admit(gated: pa.Table, seq: int, seen: SeenEvents) -> Admission:
    """Sort the records of batch `seq` (schema `gated_schema`) into their lists."""
    gated = gated.sort_by([("origin", "ascending"), ("line", "ascending")])
    refused = gated.filter(gated["reasons"].is_valid())
    good = gated.filter(gated["reasons"].is_null())
    quarantine = [
        _quarantined(row, row["verdict"], row["reasons"], seq)
        for row in refused.select([*_KEPT, "verdict", "reasons"]).to_pylist()
    ]
    rows = good.select(["event_id", "digest", "origin", "line"]).to_pylist()
    earlier, as_earlier = (found.tolist() for found in seen.known(good))
    duplicates: list[Row] = []
    conflicts: list[int] = []
    batch: dict[str, Row] = {}
    keep: list[int] = []
    for i, row in enumerate(rows):
        if not earlier[i] and row["event_id"] not in batch:
            batch[row["event_id"]] = row
            keep.append(i)
        elif as_earlier[i] if earlier[i] else batch[row["event_id"]]["digest"] == row["digest"]:
            duplicates.append({**{k: row[k] for k in ("origin", "line", "event_id")}, "seq": seq})
        else:
            conflicts.append(i)
    first: dict[str, Place] = {name: (row["origin"], row["line"]) for name, row in batch.items()}
    if of_earlier := [rows[i]["event_id"] for i in conflicts if earlier[i]]:
        first |= seen.places(of_earlier)
    for i in conflicts:
        origin, line = first[rows[i]["event_id"]]
        reason = f"event_id: {rows[i]['event_id']!r} differs from {origin}:{line}"
        late = {**rows[i], "payload": good["payload"][i].as_py()}
        quarantine.append(_quarantined(late, "conflict", reason, seq))
    events = good.take(pa.array(keep, pa.int64())).drop_columns(["payload", "verdict", "reasons"])
    events = events.append_column("seq", pa.array([seq] * len(keep), pa.int64()))
    return Admission(events, duplicates, quarantine)


def _quarantined(row: Row, verdict: str, reasons: str, seq: int) -> Row:
    kept = {k: row[k] for k in _KEPT}
    return {**kept, "verdict": verdict, "reasons": reasons, "seq": seq}
