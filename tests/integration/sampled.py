"""A training set of the embedded log's own rows, without Spark."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.record import Event, check_event
from data_contracts.use_case import UseCase
from tests.engines import point_in_time_features

ARROW = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "timestamp": pa.timestamp("us", "UTC"),
}


def training_set(use_case: UseCase, every: int) -> pa.Table:
    """The rows that every n-th impression of the embedded log gives."""
    log = pq.read_table(use_case.log).to_pylist()[::every]
    events = [check_event(use_case.contract, e) for row in log for e in use_case.canonical(row)]
    events.sort(key=lambda event: (event["event_time"], event["event_id"]))
    clicked = {event["impression_id"] for event in events if event["event_type"] == "click"}
    rows = [event for event in events if event["event_type"] == use_case.label.on]
    features: dict[str, np.ndarray] = {}
    for group in use_case.groups:
        queries = [(row[group.entity], row["event_time"]) for row in rows]
        values = np.array(point_in_time_features(group, events, queries))
        features |= dict(zip(group.feature_names, values.T, strict=True))
    return pa.table(
        {
            **fields(use_case, rows),
            **features,
            "q": pa.array([row["event_time"] for row in rows], ARROW["timestamp"]),
            "label": np.array([row["event_id"] in clicked for row in rows], np.int32),
            "split": split(use_case, len(rows)),
        }
    )


def fields(use_case: UseCase, rows: list[Event]) -> dict[str, pa.Array]:
    return {
        name: pa.array([row[name] for row in rows], ARROW[field.type])
        for name, field in use_case.contract.fields.items()
    }


def split(use_case: UseCase, rows: int) -> list[str]:
    share = use_case.declared.split
    train_end = int(rows * share.train)
    validation_end = int(rows * (share.train + share.validation))
    names = ["train"] * train_end + ["validation"] * (validation_end - train_end)
    return names + ["test"] * (rows - validation_end)
