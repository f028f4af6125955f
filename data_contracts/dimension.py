"""Dimension tables: what is known of an entity from a time on, taken over by the events about it.

Of the rows of a key the one with the largest `valid_from` at or before a moment holds then. An
event takes the attributes that it does not carry itself once, when it is admitted; a request row
when it is answered.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from data_contracts.clock import micros, parse_time
from data_contracts.contract import REQUIRED_FIELDS, Contract
from data_contracts.keys import Part
from data_contracts.naming import naming
from data_contracts.record import check_value

DIMENSIONS = "dimensions"
"""The folder beside a raw log that holds `{dimension}.jsonl` of those that go with it."""

VALID_FROM = "valid_from"
"""The column of a dimension's file and table that says from when on a row holds."""

_OWN = frozenset((*REQUIRED_FIELDS, "arrived_at", VALID_FROM))


@dataclass(frozen=True)
class DimensionRow:
    """The attributes of a key from a time on, in the order of the dimension's declaration."""

    key: Part
    valid_from: int
    """µs."""
    values: tuple[Part | None, ...]


@dataclass(frozen=True)
class Dimension:
    """A table of attributes by key and time, e.g. of items: an event's category follows from its
    item."""

    name: str
    key: str
    """The event field whose value is the key."""
    attributes: tuple[str, ...]
    """The event fields that are taken from it where an event does not carry them."""

    def row(self, contract: Contract, said: Mapping[str, Any]) -> DimensionRow:
        """The row that a file's columns say; ValueError naming the column that is wrong.

        `valid_from` is a timestamp (UTC where it has no zone) or RFC 3339 text.
        """
        typed: dict[str, Any] = {}
        for name in (self.key, *self.attributes):
            with naming(name):
                typed[name] = check_value(contract.fields[name], said.get(name))
        if typed[self.key] is None:
            raise ValueError(f"{self.key}: required")
        with naming(VALID_FROM):
            since = _micros(said.get(VALID_FROM))
        return DimensionRow(typed[self.key], since, tuple(typed[n] for n in self.attributes))

    def held(self, columns: Mapping[str, Sequence[Any]]) -> Iterator[DimensionRow]:
        """The rows of a table's columns, `valid_from` in µs; an attribute without one is null."""
        keys = columns[self.key]
        values = [columns.get(name) or [None] * len(keys) for name in self.attributes]
        return map(DimensionRow, keys, columns[VALID_FROM], zip(*values, strict=True))

    def check(self, contract: Contract) -> None:
        """Raise ValueError naming dimension and field for a declaration that cannot be right."""
        with naming(f"dimension {self.name}"):
            self._check(contract)

    def _check(self, contract: Contract) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError("its name must be lower-case letters, digits and _: rename it")
        if not self.attributes or len({self.key, *self.attributes}) <= len(self.attributes):
            raise ValueError(f"attributes {self.attributes}: name at least one, each once, no key")
        for name in (self.key, *self.attributes):
            if name not in contract.fields:
                raise ValueError(f"field {name!r} is not in {contract.name}")
            if name in _OWN:
                raise ValueError(f"field {name!r} is every event's own: name another")
            if (kind := contract.fields[name].type) not in ("string", "integer"):
                raise ValueError(f"field {name!r} is a {kind}: name a string or an integer field")
        for name in self.attributes:
            if contract.fields[name].required:
                raise ValueError(f"attribute {name!r} is required of every event: make it optional")


class AsOf:
    """The rows of one dimension, looked up by key and time."""

    def __init__(self, rows: Iterable[DimensionRow] = ()) -> None:
        self._times: dict[Part, list[int]] = {}
        self._values: dict[Part, list[tuple[Part | None, ...]]] = {}
        for row in sorted(rows, key=attrgetter("valid_from")):
            self._times.setdefault(row.key, []).append(row.valid_from)
            self._values.setdefault(row.key, []).append(row.values)

    def at(self, key: Part | None, time: int) -> tuple[Part | None, ...] | None:
        """The attributes that hold for `key` at `time` (µs); None where no row does yet."""
        times = self._times.get(key) if key is not None else None
        place = bisect_right(times, time) if times else 0
        return self._values[key][place - 1] if key is not None and place else None


def check_dimensions(dimensions: Sequence[Dimension], contract: Contract) -> None:
    """Raise ValueError for one that cannot be right, and for two that disagree."""
    for dimension in dimensions:
        dimension.check(contract)
    names = [dimension.name for dimension in dimensions]
    if len(set(names)) != len(names):
        raise ValueError(f"dimensions {sorted(names)}: two share a name: rename one")
    attributes = [name for dimension in dimensions for name in dimension.attributes]
    for name in attributes:
        if attributes.count(name) > 1:
            raise ValueError(f"dimensions: attribute {name!r} stands in two: leave one out")
    for dimension in dimensions:
        if dimension.key in attributes:
            raise ValueError(
                f"dimension {dimension.name}: key {dimension.key!r} is an attribute of another, "
                "and dimensions are not chained: name a field that events carry"
            )


def with_attributes(
    dimensions: Sequence[Dimension],
    tables: Mapping[str, AsOf],
    row: Mapping[str, Any],
    time: int,
) -> dict[str, Any]:
    """The row with the attributes at `time` (µs) that it lacks, by the tables' names."""
    full = dict(row)
    for dimension in dimensions:
        values = tables[dimension.name].at(full.get(dimension.key), time)
        for name, value in zip(dimension.attributes, values or (), strict=False):
            if full.get(name) is None:
                full[name] = value
    return full


def _micros(value: Any) -> int:
    if isinstance(value, str):
        return parse_time(value)
    if not isinstance(value, datetime):
        raise ValueError(f"{value!r:.64} is no time: give a timestamp or RFC 3339 text")
    return micros(value)
