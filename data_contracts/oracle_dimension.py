"""The oracle's dimension: which row holds, found by looking at every one of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from data_contracts.dimension import Dimension, DimensionRow


def oracle_attributes(
    dimension: Dimension, rows: Iterable[DimensionRow], event: Mapping[str, Any]
) -> dict[str, Any]:
    """The event with the attributes that it does not carry, as of its own time."""
    last: DimensionRow | None = None
    for row in rows:
        holds = row.key == event[dimension.key] and row.valid_from <= event["event_time"]
        if holds and (last is None or row.valid_from > last.valid_from):
            last = row
    found = dict(event)
    for place, name in enumerate(dimension.attributes):
        if event[name] is None and last is not None:
            found[name] = last.values[place]
    return found
