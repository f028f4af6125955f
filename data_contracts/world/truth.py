"""What is true of the records of a log: rows of JSON lines that lie beside it.

    impressions  event_id, p_true, clicks_1h, impressions_10m (the history that p_true acts on),
                 clicked (also when the click arrives after the log's end)
    funnel       event_id, event_type, impression_id, delay_us after the event that led to it
    copies       file, line, event_id, verdict: duplicate or conflict
    late         file, line, event_id, late_us: what arrived more than a minute after its time
    malformed    file, line, event_id, field: the field its refusal names ("record" for the whole)

Lines count from 1. Training never reads these files.
"""

import json

import numpy as np

from data_contracts.clock import MINUTE
from data_contracts.world.generator import CONFLICT, DUPLICATE, KINDS, MALFORMED, ORIGINAL
from data_contracts.world.lines import FAULTS, fault_of, request_of
from data_contracts.world.population import Population


def truth_rows(
    people: Population, records: np.ndarray, file: str, first: int
) -> dict[str, list[str]]:
    """The rows of each truth table about RECORD[…] that stand in `file` from line `first` on."""
    line = np.arange(first, first + len(records))
    original = records["copy"] == ORIGINAL
    shown, led = original & (records["kind"] == 0), original & (records["kind"] > 0)
    copied = np.isin(records["copy"], (DUPLICATE, CONFLICT))
    broken = records["copy"] == MALFORMED
    late = ~broken & (records["arrived"] - records["time"] > MINUTE)
    return {
        "impressions": _impressions(records[shown]),
        "funnel": _funnel(records[led]),
        "copies": _copies(records[copied], line[copied], file),
        "late": _late(records[late], line[late], file),
        "malformed": _malformed(people, records[broken], line[broken], file),
    }


def _impressions(rows: np.ndarray) -> list[str]:
    columns = [rows[name].tolist() for name in ("p", "clicks", "impressions", "clicked")]
    return [
        f'{{"event_id":"{event}","p_true":{p!r},"clicks_1h":{clicks},'
        f'"impressions_10m":{impressions},"clicked":{"true" if clicked else "false"}}}'
        for event, p, clicks, impressions, clicked in zip(_ids(rows), *columns, strict=True)
    ]


def _funnel(rows: np.ndarray) -> list[str]:
    kinds: list[int] = rows["kind"].tolist()
    return [
        _row(
            event_id=event,
            event_type=KINDS[kind],
            impression_id=event.removesuffix(f"-{KINDS[kind]}"),
            delay_us=delay,
        )
        for event, kind, delay in zip(_ids(rows), kinds, rows["delay"].tolist(), strict=True)
    ]


def _copies(rows: np.ndarray, lines: np.ndarray, file: str) -> list[str]:
    columns = [_ids(rows), lines.tolist(), (rows["copy"] == DUPLICATE).tolist()]
    return [
        _row(file=file, line=n, event_id=event, verdict="duplicate" if same else "conflict")
        for event, n, same in zip(*columns, strict=True)
    ]


def _late(rows: np.ndarray, lines: np.ndarray, file: str) -> list[str]:
    columns = [_ids(rows), lines.tolist(), (rows["arrived"] - rows["time"]).tolist()]
    return [
        _row(file=file, line=n, event_id=event, late_us=late)
        for event, n, late in zip(*columns, strict=True)
    ]


def _malformed(people: Population, rows: np.ndarray, lines: np.ndarray, file: str) -> list[str]:
    faults: list[int] = fault_of(people, rows).tolist()
    return [
        _row(file=file, line=n, event_id=f"{event}-malformed", field=FAULTS[fault][0])
        for event, n, fault in zip(_ids(rows), lines.tolist(), faults, strict=True)
    ]


def _ids(rows: np.ndarray) -> list[str]:
    columns = [rows[name].tolist() for name in ("page", "position", "kind")]
    return [
        f"{request_of(page)}-{position}" + (f"-{KINDS[kind]}" if kind else "")
        for page, position, kind in zip(*columns, strict=True)
    ]


def _row(**fields: str | int) -> str:
    return json.dumps(fields, separators=(",", ":"))
