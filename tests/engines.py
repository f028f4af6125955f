"""The two ways of `data_contracts` from a log to features, each as one call for the tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_contracts import point_in_time, states
from data_contracts.accumulators import Events, code
from data_contracts.entries import Entries
from data_contracts.features import FeatureGroup
from data_contracts.keys import key_of
from data_contracts.states import State
from data_contracts.tiles import Rows, raw_rows

Event = Mapping[str, Any]


def as_events(group: FeatureGroup, log: Sequence[Event]) -> Events:
    """The arrays from which the group lifts."""
    sources = [part.source for part in (*group.accumulators, *group.entries)]
    texts = {"event_type", *(name for source in sources for name, _ in source.where)}
    fields = {s.field for s in sources if s.field not in (None, "event_time")}
    number: dict[str, np.ndarray] = {}
    for field in fields:
        values = [_number(event.get(field)) for event in log]
        number[str(field)] = np.array(values, np.float64)
    return Events(
        time=np.array([e["event_time"] for e in log], np.int64),
        tie=np.array([code(e.get("event_id", "")) for e in log], np.int64),
        text={name: np.array([e.get(name) for e in log], dtype=object) for name in texts},
        number=number,
    )


def _number(value: Any) -> float:
    if isinstance(value, str):
        return float(code(value))
    return float("nan") if value is None else float(value)


def as_batch(group: FeatureGroup, log: Sequence[Event]) -> tuple[list[str], Rows]:
    """One micro-batch as `states.advance` takes it: its keys, and its events' raw tiles."""
    log = [event for event in log if key_of(group.key_fields, event) is not None]
    keys = [str(key_of(group.key_fields, event)) for event in log]
    names = list(dict.fromkeys(keys))
    index = np.array([names.index(key) for key in keys], np.int64)
    return names, raw_rows(group, index, as_events(group, log))


def stream(
    group: FeatureGroup, batches: Sequence[Sequence[Event]], as_ofs: Sequence[int]
) -> dict[str, State]:
    """The states after all batches, each written with its own seq and as-of."""
    found: dict[str, State] = {}
    for seq, (batch, as_of) in enumerate(zip(batches, as_ofs, strict=True)):
        found |= states.advance(group, found, *as_batch(group, batch), seq, as_of)
    return found


def tile_features(
    group: FeatureGroup, found: Mapping[str, State], keys: Sequence[str], q: int
) -> list[list[float]]:
    """Features of `keys` at `q` from packed states."""
    return states.read(group, [found.get(key) for key in keys], q).tolist()


def point_in_time_features(
    group: FeatureGroup, log: Sequence[Event], queries: Sequence[tuple[str, int]]
) -> list[list[float]]:
    """Features of (key, q) queries straight from the events."""
    log = [event for event in log if key_of(group.key_fields, event) is not None]
    own = [str(key_of(group.key_fields, event)) for event in log]
    names = [*own, *(key for key, _ in queries)]
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    q = np.array([q for _, q in queries], np.int64)
    seen = point_in_time.window_states(
        group,
        np.array([index[key] for key in own], np.int64),
        as_events(group, log),
        np.array([index[key] for key, _ in queries], np.int64),
        q,
    )
    return group.finalize(seen, q).tolist()


def tables(group: FeatureGroup, rows: Rows) -> list[list[list[int]]]:
    """The tables of merged rows as lists, to compare; their widths checked on the way."""
    parts: Sequence[Entries] = group.entries
    widths = [3 + len(group.accumulators), *(3 + part.width for part in parts)]
    assert widths == [table.shape[1] for table in rows.tables]
    return [table.tolist() for table in rows.tables]
