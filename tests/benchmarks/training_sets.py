"""A use case's training set from its imported days without Spark: the same law in numpy.

For benchmarks, which would otherwise spend minutes in the stream before the first model.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_contracts.dimension import DIMENSIONS, AsOf, with_attributes
from data_contracts.keys import key_of
from data_contracts.lake import Lake
from data_contracts.record import Event, check_event
from data_contracts.results import read_result, write_result
from data_contracts.use_case import UseCase
from spark_jobs.imports import import_log
from tests.engines import point_in_time_features
from tests.training_table import write_rows

ARROW = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
}


def import_training_set(use_case: UseCase, lake: Lake, log: Path) -> int:
    """Import the raw log, then as `write_training_set`."""
    imported = import_log(use_case, lake, log)
    held_out = imported.held_out(use_case.label.window)
    history = [day.stem for day in imported.days if day not in held_out]
    write_result(lake, "raw_log", {"history": history})
    return write_training_set(use_case, lake, log)


def write_training_set(use_case: UseCase, lake: Lake, log: Path) -> int:
    """Write `lake.training_set` from the imported history; returns its rows.

    `log`: the raw one, beside which the dimensions lie.
    """
    tables = _dimensions(use_case, log)
    events = _events(use_case, lake, tables)
    rows = _label_rows(use_case, events)
    features: dict[str, np.ndarray] = {}
    for group in use_case.groups:
        queries = [(str(key_of(group.key_fields, row)), row["q"]) for row in rows]
        values = np.array(point_in_time_features(group, events, queries))
        features |= dict(zip(group.feature_names, values.T, strict=True))
    columns = {
        name: pa.array([row[name] for row in rows], ARROW[field.type])
        for name, field in use_case.contract.fields.items()
    }
    q = np.array([row["q"] for row in rows])
    label = pa.array([row["label"] for row in rows], pa.int32())
    split = _split(use_case, q, np.array([row["event_time"] for row in rows]))
    table = {
        **columns, **features, "q": pa.array(q, ARROW["timestamp"]), "label": label, "split": split
    }  # fmt: skip
    write_rows(use_case, lake, pa.table(table))
    return len(rows)


def _dimensions(use_case: UseCase, log: Path) -> dict[str, AsOf]:
    tables: dict[str, AsOf] = {}
    for dimension in use_case.declared.dimensions:
        with (log / DIMENSIONS / f"{dimension.name}.jsonl").open() as lines:
            rows = [dimension.row(use_case.contract, json.loads(line)) for line in lines]
        tables[dimension.name] = AsOf(rows)
    return tables


def _events(use_case: UseCase, lake: Lake, tables: dict[str, AsOf]) -> list[Event]:
    """The valid events of the days that are not held out, one per id, in order of time."""
    found: dict[str, Event] = {}
    for day in read_result(lake, "raw_log")["history"]:
        with (lake.imported / f"{day}.jsonl").open() as lines:
            for line in lines:
                try:
                    event = check_event(use_case.contract, json.loads(line))
                except ValueError:
                    continue
                full = with_attributes(
                    use_case.declared.dimensions, tables, event, event["event_time"]
                )
                found.setdefault(event["event_id"], full)
    return sorted(found.values(), key=lambda event: (event["event_time"], event["event_id"]))


def _label_rows(use_case: UseCase, events: list[Event]) -> list[Event]:
    label, request = use_case.label, use_case.declared.request_field
    hits: dict[tuple[object, ...], list[int]] = {}
    for event in events:
        if event["event_type"] in label.positive:
            key = tuple(event[name] for name in label.match.values())
            hits.setdefault(key, []).append(event["event_time"])
    complete_to = max(e["event_time"] for e in events if e["event_type"] in label.witnesses)
    opened: dict[object, int] = {}
    seen: set[tuple[object, ...]] = set()
    rows: list[Event] = []
    for event in events:
        if event["event_type"] != label.on:
            continue
        page = (event[request] if request else None) or event["event_id"]
        time = event["event_time"]
        q = opened.setdefault(page, time)
        if label.first_per:
            key = tuple(event[name] for name in label.first_per)
            if key in seen:
                continue
            seen.add(key)
        times = hits.get(tuple(event[name] for name in label.match), [])
        positive = any(time <= hit <= time + label.window for hit in times)
        if time + label.window <= complete_to:
            rows.append({**event, "q": q, "label": int(positive)})
    return rows


def _split(use_case: UseCase, q: np.ndarray, times: np.ndarray) -> np.ndarray:
    share, window = use_case.declared.split, use_case.label.window
    first, second = np.quantile(q, [share.train, share.train + share.validation]).astype(np.int64)
    settled = times + window
    cases = [settled <= first, q < first, settled <= second, q < second]
    return np.select(cases, ["train", "gap", "validation", "gap"], "test")
