"""The two ways of `data_contracts` from a log to features, each as one call for the tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_contracts import point_in_time, tiles
from data_contracts.aggregates import Columns
from data_contracts.features import FeatureGroup
from data_contracts.tiles import State

Event = Mapping[str, Any]


def as_columns(group: FeatureGroup, events: Sequence[Event]) -> Columns:
    """The arrays from which the group lifts: event types, and numbers with NaN for null."""
    columns = {"event_type": np.array([e["event_type"] for e in events], dtype=object)}
    for part in group.accumulators:
        if part.field is not None:
            values = [e.get(part.field) for e in events]
            columns[part.field] = np.array([np.nan if v is None else v for v in values], float)
    return columns


def as_batch(group: FeatureGroup, events: Sequence[Event]) -> dict[str, np.ndarray]:
    """One micro-batch as `tiles.advance` takes it: rows of time and lifted accumulators by key."""
    table = np.column_stack([_times(events), group.lift(as_columns(group, events))])
    owners = np.array([e[group.entity] for e in events], dtype=object)
    return {key: table[owners == key] for key in dict.fromkeys(owners.tolist())}


def stream(
    group: FeatureGroup, batches: Sequence[Sequence[Event]], as_ofs: Sequence[int]
) -> dict[str, State]:
    """The states after all batches, each written with its own seq and as-of."""
    states: dict[str, State] = {}
    for seq, (batch, as_of) in enumerate(zip(batches, as_ofs, strict=True)):
        states |= tiles.advance(group, states, as_batch(group, batch), seq, as_of)
    return states


def tile_features(
    group: FeatureGroup, states: Mapping[str, State], keys: Sequence[str], q: int
) -> list[list[float]]:
    """Features of `keys` at `q` from packed states."""
    return tiles.read(group, [states.get(key) for key in keys], q).tolist()


def point_in_time_features(
    group: FeatureGroup, events: Sequence[Event], queries: Sequence[tuple[str, int]]
) -> list[list[float]]:
    """Features of (key, q) queries straight from the events."""
    names = [*(e[group.entity] for e in events), *(key for key, _ in queries)]
    code = {name: i for i, name in enumerate(dict.fromkeys(names))}
    states = point_in_time.window_states(
        group,
        np.array([code[e[group.entity]] for e in events], np.int64),
        _times(events),
        group.lift(as_columns(group, events)),
        np.array([code[key] for key, _ in queries], np.int64),
        np.array([q for _, q in queries], np.int64),
    )
    return group.finalize(states).tolist()


def _times(events: Sequence[Event]) -> np.ndarray:
    return np.array([e["event_time"] for e in events], np.int64)
