"""Rows of dimensions for schedules: drawn for the log's own keys, loaded early, late and amid."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data_contracts.clock import DAY
from data_contracts.contract import Field
from data_contracts.dimension import AsOf, Dimension, DimensionRow, with_attributes
from data_contracts.keys import Key, Part, key_in
from data_contracts.record import Event
from data_contracts.use_case import UseCase

Base = Mapping[str, Mapping[Part, DimensionRow]]
"""Dimension -> key -> a row that holds from before the log's first event on."""

Placed = tuple[list[tuple[str, DimensionRow]], list[tuple[str, DimensionRow]]]
"""What is loaded before a batch, and amid it."""

_MADE = 3
"""How many values of an attribute are made where the log holds none."""


def base_rows(use_case: UseCase, events: Sequence[Event]) -> Base:
    """A row for every key in the log, its values those that the log's events carry, if they do."""
    since = min((event["event_time"] for event in events), default=0) - DAY
    found: dict[str, dict[Part, DimensionRow]] = {}
    for dimension in use_case.declared.dimensions:
        pools = [_pool(use_case.contract.fields[name], events) for name in dimension.attributes]
        keys = sorted({e[dimension.key] for e in events} - {None}, key=str)
        found[dimension.name] = {
            key: DimensionRow(key, since, tuple(pool[i % len(pool)] for pool in pools))
            for i, key in enumerate(keys)
        }
    return found


def with_base(use_case: UseCase, base: Base, events: Iterable[Event]) -> list[Event]:
    """The events with what the base holds of them."""
    tables = {name: AsOf(rows.values()) for name, rows in base.items()}
    return [
        with_attributes(use_case.declared.dimensions, tables, event, event["event_time"])
        for event in events
    ]


def placed(
    rng: np.random.Generator,
    dimensions: Sequence[Dimension],
    base: Base,
    events: Sequence[Event],
    centre: Event,
    own: int,
    batches: int,
) -> list[Placed]:
    """Per batch the rows that are loaded: most of the base before the first, some of it late or
    never; and another row for the key of the `centre` and half of the others, that holds from the
    time of one of the `events` on, ±1 µs. Those of the centre lie near its time and its batch."""
    found: list[Placed] = [([], []) for _ in range(batches)]
    for dimension in dimensions:
        held = base[dimension.name]
        every = sorted({row.values for row in held.values()}, key=repr)
        for key in dict.fromkeys(e[dimension.key] for e in events if e[dimension.key] is not None):
            late, fate = found[rng.integers(batches)][rng.integers(2)], rng.random()
            if fate < 0.95:
                (found[0][0] if fate < 0.8 else late).append((dimension.name, held[key]))
            focal = key == centre[dimension.key]
            if not focal and rng.random() < 0.5:
                continue
            close, near = focal and rng.random() < 0.7, focal and rng.random() < 0.5
            event = centre if close else events[int(rng.integers(len(events)))]
            since = event["event_time"] + int(rng.choice([-1, 0, 0, 1]))
            others = [values for values in every if values != held[key].values]
            some = others and rng.random() < 0.9
            values = others[rng.integers(len(others))] if some else (None,) * len(held[key].values)
            place = found[own if near else rng.integers(batches)][rng.integers(2)]
            place.append((dimension.name, DimensionRow(key, since, values)))
    return found


def keys_met(
    dimensions: Sequence[Dimension],
    rows: Sequence[Placed],
    fields: Sequence[str],
    event: Mapping[str, Any],
) -> list[Key]:
    """The keys that the event has under one or another of the rows."""
    found: list[Key] = []
    for dimension in dimensions:
        for name, row in (pair for both in rows for part in both for pair in part):
            if name == dimension.name and row.key == event[dimension.key]:
                given = dict(zip(dimension.attributes, row.values, strict=True))
                key = key_in(fields, {**event, **given})
                found += [] if key is None else [key]
    return found


def _pool(field: Field, events: Iterable[Event]) -> list[Part]:
    carried = sorted({event[field.name] for event in events} - {None}, key=str)
    if len(carried) > 1:
        return carried
    if field.type == "integer":
        least = int(field.minimum or 0)
        return [least + i for i in range(_MADE)]
    return [*field.values[:_MADE]] or [f"{field.name} {i}" for i in range(_MADE)]
