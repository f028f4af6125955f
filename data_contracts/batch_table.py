"""Batch tables: what another system computes becomes events, which every engine reads alike."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from data_contracts.clock import format_time, micros
from data_contracts.contract import Contract
from data_contracts.naming import naming

_OWN = frozenset(("event_id", "event_type", "event_time", "arrived_at"))


@dataclass(frozen=True)
class BatchTable:
    """A table whose rows are events of one type, e.g. of item prices: `Last` over them is a price.

    The same row again is a duplicate; another row of the same key and time is a conflict.
    """

    name: str
    event_type: str
    time: str
    """The column from whose time on a row holds: a timestamp (UTC where it has no zone) or RFC 3339
    text."""
    fields: Mapping[str, str]
    """Event field -> column."""
    key: tuple[str, ...]
    """The event fields that tell rows of one time apart, e.g. `("item_id",)`."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        return tuple(dict.fromkeys((self.time, *self.fields.values())))

    def line(self, row: Mapping[str, Any]) -> str:
        """The JSON line of a row's event, for the gate to judge; a value that JSON cannot hold
        stands in it as an object that no contract takes."""
        said = {name: _plain(row.get(column)) for name, column in self.fields.items()}
        time = _plain(row.get(self.time))
        event = {
            "event_id": self._event_id(time, said),
            "event_type": self.event_type,
            "event_time": time,
            **said,
        }
        return _json({name: value for name, value in event.items() if value is not None})

    def check(self, contract: Contract) -> None:
        """Raise ValueError naming table and field for a declaration that cannot be right."""
        with naming(f"batch table {self.name}"):
            self._check(contract)

    def _check(self, contract: Contract) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError("its name must be lower-case letters, digits and _: rename it")
        if self.event_type not in contract.event_types:
            raise ValueError(f"event type {self.event_type!r} is not declared")
        if unknown := sorted(set(self.fields) - set(contract.fields)):
            raise ValueError(f"fields {unknown} are not in {contract.name}")
        if own := sorted(_OWN & set(self.fields)):
            raise ValueError(f"fields {own} are made from its name, key and time: leave them out")
        if not self.key or not set(self.key) <= set(self.fields):
            raise ValueError(f"key {self.key}: name some of its fields {sorted(self.fields)}")
        for name, field in contract.fields.items():
            needed = field.required or self.event_type in field.required_for
            if needed and name not in {*self.fields, *_OWN}:
                raise ValueError(f"field {name!r} is required for {self.event_type}: map a column")

    def _event_id(self, time: Any, said: Mapping[str, Any]) -> str:
        identity = _json([time, *(said[name] for name in self.key)])
        return f"{self.name}:{blake2b(identity.encode(), digest_size=16).hexdigest()}"


def _plain(value: Any) -> Any:
    return format_time(micros(value)) if isinstance(value, datetime) else value


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=lambda v: {type(v).__name__: repr(v)})
