"""Arrow tables of events as the numpy columns that the tile algebra takes."""

import numpy as np
import pyarrow as pa

from data_contracts.aggregates import Columns
from data_contracts.contract import Contract
from data_contracts.features import FeatureGroup


def micros(times: pa.ChunkedArray, absent: int = 0) -> np.ndarray:
    """int64[n] microseconds of a timestamp column; nulls become `absent`."""
    us = times.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return np.asarray(us.fill_null(absent).to_numpy())


def arrivals(events: pa.Table) -> np.ndarray:
    """int64[n] µs: when each event arrived; its own time where nothing was stamped."""
    times = micros(events["event_time"])
    if "arrived_at" not in events.column_names:
        return times
    stamped = np.asarray(events["arrived_at"].is_valid())
    return np.where(stamped, micros(events["arrived_at"]), times)


def to_columns(contract: Contract, events: pa.Table) -> Columns:
    """`event_type` as objects and the table's number fields as float64 with NaN for null."""
    columns: dict[str, np.ndarray] = {
        "event_type": np.array(events["event_type"].to_pylist(), dtype=object)
    }
    for field in contract.fields.values():
        if field.type in ("integer", "number") and field.name in events.column_names:
            values = events[field.name].cast(pa.float64()).fill_null(float("nan"))
            columns[field.name] = values.to_numpy()
    return columns


def codes(keys: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, list[str]]:
    """int64[n] codes and the distinct keys they stand for, sorted."""
    names, code = np.unique(np.array(keys.to_pylist(), dtype=object), return_inverse=True)
    return code.astype(np.int64), names.tolist()


def by_key(
    group: FeatureGroup, keys: pa.ChunkedArray, times: np.ndarray, columns: Columns
) -> dict[str, np.ndarray]:
    """Per key int64[n, 1 + accumulators]: event time (µs) and lifted accumulators.

    Events whose key is null belong to no key of this group.
    """
    present = np.asarray(keys.is_valid())
    rows = np.column_stack([times, group.lift(columns)])[present]
    code, names = codes(keys.drop_null())
    order = np.argsort(code, kind="stable")
    edges = np.searchsorted(code[order], np.arange(len(names) + 1))
    rows = rows[order]
    return {name: rows[edges[i] : edges[i + 1]] for i, name in enumerate(names)}
