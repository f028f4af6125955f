"""Arrow tables of events as the numpy arrays that the tile algebra takes."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.accumulators import TIME, Events, code
from data_contracts.features import FeatureGroup
from data_contracts.point_in_time import Timeline
from data_contracts.tiles import Rows, raw_rows
from spark_jobs.keys import key_array


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


def used_fields(groups: Sequence[FeatureGroup]) -> tuple[list[str], list[str]]:
    """The event fields that the groups filter by, and those whose values they take, sorted."""
    sources = [part.source for g in groups for part in (*g.accumulators, *g.entries)]
    filters = {name for source in sources for name, _ in source.where}
    values = {source.field for source in sources if source.field not in (None, TIME)}
    return sorted(filters), sorted(map(str, values))


def to_events(
    groups: Sequence[FeatureGroup],
    events: pa.Table,
    time: str = TIME,
    tied: np.ndarray | None = None,
) -> Events:
    """The table's events as those groups lift them; `time` names the column of their times.

    With `tied` (bool[n]) only those events have a tie, unless a group needs the tie of each.
    """
    filters, values = used_fields(groups)
    ties = np.zeros(len(events), np.int64)
    if entries := [part for group in groups for part in group.entries]:
        if tied is None or any(part.by_tie for part in entries):
            tied = np.ones(len(events), dtype=bool)
        ties[tied] = _codes(events["event_id"].filter(pa.array(tied)))
    return Events(
        time=micros(events[time]),
        tie=ties,
        text={f: _texts(events[f]) for f in filters},
        number={f: _numbers(events[f]) for f in values},
    )


def queried_events(
    group: FeatureGroup, keys: np.ndarray, events: pa.Table, time: str = TIME
) -> Events:
    """The events of `keys` int64[n] as `window_states` reads them: only those that share key and
    time have a tie, for strings take long to hash."""
    return to_events([group], events, time, Timeline(keys, micros(events[time])).tied())


def keyed_rows(group: FeatureGroup, events: pa.Table) -> tuple[list[str], Rows]:
    """The keys of a batch and its events' raw tiles by index into them."""
    present = with_key(group, events)
    index, names = codes(present["key"])
    return names, raw_rows(group, index, to_events([group], present))


def with_key(group: FeatureGroup, events: pa.Table) -> pa.Table:
    """The events that belong to a key of the group, with its text in the column `key`."""
    keys = key_array(group.key_fields, events)
    return events.append_column("key", keys).filter(keys.is_valid())


def codes(keys: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, list[str]]:
    """int64[n] codes and the distinct keys they stand for, sorted."""
    encoded = _encoded(keys)
    order = pc.call_function("array_sort_indices", [encoded.dictionary]).to_numpy()
    code = np.empty(len(order), np.int64)
    code[order] = np.arange(len(order))
    return code[encoded.indices.to_numpy()], encoded.dictionary.take(pa.array(order)).to_pylist()


def _encoded(column: pa.ChunkedArray | pa.Array) -> pa.DictionaryArray:
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return pa.concat_arrays([pa.array([], column.type), *chunks]).dictionary_encode()


def _texts(column: pa.ChunkedArray) -> np.ndarray:
    """object[n]: the strings, None where null."""
    encoded = _encoded(column)
    values = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    return values[encoded.indices.fill_null(len(values) - 1).to_numpy()]


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """float64[n], NaN where null; a string counts as its code."""
    if pa.types.is_string(column.type):
        return np.where(np.asarray(column.is_null()), np.nan, _codes(column).astype(np.float64))
    return column.cast(pa.float64()).fill_null(float("nan")).to_numpy()


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """int64[n]: the code of each string, 0 where null."""
    encoded = _encoded(column)
    numbers = np.array([*(code(text) for text in encoded.dictionary.to_pylist()), 0], np.int64)
    return numbers[encoded.indices.fill_null(len(numbers) - 1).to_numpy()]
