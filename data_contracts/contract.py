"""The event contract: an Open Data Contract Standard v3 document and the rules it states.

Spark schema, Great Expectations suite and the validation of single records derive from it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from open_data_contract_standard.model import OpenDataContractStandard, SchemaProperty
from pydantic import ValidationError
from yaml import YAMLError

from data_contracts.clock import duration
from data_contracts.digest import digest_of
from data_contracts.naming import naming

FieldType = Literal["string", "integer", "number", "boolean", "timestamp"]

_TYPES = ("string", "integer", "number", "boolean", "timestamp")
_RANGE = {"minimum": int | float, "maximum": int | float}
_OPTIONS = {
    "string": {"minLength": int, "maxLength": int, "pattern": str},
    "integer": _RANGE,
    "number": _RANGE,
}

REQUIRED_FIELDS = {"event_id": "string", "event_type": "string", "event_time": "timestamp"}
"""What every event contract must declare, so that ingest and features have something to hold."""

RESERVED = frozenset(
    ("seq", "origin", "line", "digest", "label", "q", "request", "split", "id", "key", "at", "day",
     "features", "seqs", "view_of", "definitions", "score", "mature", "payload", "reasons",
     "verdict", "arrived")
)  # fmt: skip
"""Columns that tables hold beside an event's fields."""
RESERVED_KEYS = frozenset(
    ("prediction_id", "request_id", "model", "version", "unit", "arm", "epoch", "release",
     "canary_bps", "fallback", "rank", "boost", "slot_propensity", "slate_propensity",
     "temperature", "seed", "inputs", "label_q")
)  # fmt: skip
"""Columns that predictions hold beside their keys."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""What a column can be called in every store; ours that pass through begin with `_`."""


@dataclass(frozen=True)
class Field:
    """One field of an event and every rule the contract states about it."""

    name: str
    type: FieldType
    required: bool
    required_for: tuple[str, ...]
    """Event types that need the field although others may lack it."""
    values: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    min_length: int | None
    max_length: int | None
    pattern: str | None
    description: str

    @cached_property
    def regex(self) -> re.Pattern[str] | None:
        """The declared pattern, compiled; a value must match it whole."""
        return re.compile(self.pattern) if self.pattern else None


@dataclass(frozen=True)
class Contract:
    """An event contract as the planes use it."""

    name: str
    version: str
    fields: Mapping[str, Field]
    max_future_skew: int
    """How far (µs) an event time may lie beyond the record's arrival."""
    retention: int | None = None
    """How far (µs) it may lie before it: beyond, the record is expired. None: any time counts."""

    @cached_property
    def event_types(self) -> tuple[str, ...]:
        """The declared values of `event_type`."""
        return self.fields["event_type"].values

    @cached_property
    def digest(self) -> str:
        """32 hex digits over everything that decides what a record is and whether it is taken: not
        name, version, descriptions nor any order."""
        fields = [
            [
                f.name, f.type, f.required, sorted(f.required_for), sorted(f.values),
                f.minimum, f.maximum, f.min_length, f.max_length, f.pattern,
            ]
            for _, f in sorted(self.fields.items())
        ]  # fmt: skip
        return digest_of([fields, self.max_future_skew, self.retention])


def read_contract(path: Path) -> Contract:
    """The contract in the ODCS v3 file `path`; ValueError naming file and rule if it is none."""
    try:
        document = OpenDataContractStandard.from_file(str(path))
    except (ValidationError, TypeError, UnicodeDecodeError, YAMLError) as error:
        raise ValueError(f"{path}: not an Open Data Contract Standard document: {error}") from error
    if document.kind != "DataContract" or not (document.apiVersion or "").startswith("v3."):
        raise ValueError(f"{path}: kind DataContract and apiVersion v3.* are needed")
    if not document.schema_ or len(document.schema_) != 1:
        raise ValueError(f"{path}: exactly one schema object (the events) is needed")
    properties = document.schema_[0].properties or []
    fields = {str(prop.name): _field(path, prop) for prop in properties}
    if len({name.lower() for name in fields}) != len(properties):
        raise ValueError(f"{path}: two properties share a name: tables do not tell case apart")
    if strange := [name for name in fields if not _NAME.fullmatch(name)]:
        raise ValueError(f"{path}: {strange}: a name is letters, digits and _: rename the field")
    for name, kind in REQUIRED_FIELDS.items():
        if name not in fields or fields[name].type != kind or not fields[name].required:
            raise ValueError(f"{path}: needs the required field {name} of logicalType {kind}")
    if "arrived_at" not in fields or fields["arrived_at"].type != "timestamp":
        raise ValueError(f"{path}: needs the field arrived_at of logicalType timestamp")
    if taken := sorted(RESERVED & set(fields)):
        raise ValueError(f"{path}: {', '.join(taken)}: names of columns of ours: rename the field")
    if not fields["event_type"].values:
        raise ValueError(f"{path}: event_type must declare its enum")
    for name, field in fields.items():
        if unknown := set(field.required_for) - set(fields["event_type"].values):
            raise ValueError(
                f"{path}: {name}: requiredFor names {sorted(unknown)}, no values of event_type"
            )
    custom = {c.property: c.value for c in document.customProperties or []}
    skew = custom.get("maxFutureSkewSeconds")
    if not isinstance(skew, int | float) or not 0 <= skew < float("inf"):
        raise ValueError(f"{path}: customProperties must declare maxFutureSkewSeconds >= 0")
    return Contract(
        name=str(document.id), version=str(document.version), fields=fields,
        max_future_skew=int(skew * 1_000_000), retention=_retention(path, custom.get("retention")),
    )  # fmt: skip


def _retention(path: Path, declared: Any) -> int | None:
    if declared is None:
        return None
    with naming(f"{path}: customProperties retention"):
        return duration(str(declared))


def _field(path: Path, prop: SchemaProperty) -> Field:
    if prop.logicalType not in _TYPES:
        raise ValueError(
            f"{path}: {prop.name}: logicalType {prop.logicalType!r} is not in {_TYPES}"
        )
    options: dict[str, Any] = prop.logicalTypeOptions or {}
    allowed = _OPTIONS.get(prop.logicalType, {})
    for option, value in options.items():
        if option not in allowed:
            raise ValueError(
                f"{path}: {prop.name}: logicalTypeOptions {option} is not supported for "
                f"{prop.logicalType}, only {sorted(allowed)}"
            )
        if not isinstance(value, allowed[option]) or isinstance(value, bool):
            raise ValueError(f"{path}: {prop.name}: {option} {value!r} has the wrong type")
    try:
        re.compile(options.get("pattern", ""))
    except re.error as error:
        raise ValueError(f"{path}: {prop.name}: pattern: {error}") from error
    if prop.enum and prop.logicalType != "string":
        raise ValueError(f"{path}: {prop.name}: an enum needs logicalType string")
    custom = {c.property: c.value for c in prop.customProperties or []}
    return Field(
        name=str(prop.name),
        type=prop.logicalType,
        required=bool(prop.required),
        required_for=tuple(cast(list[str], custom.get("requiredFor") or [])),
        values=tuple(str(item.value) for item in prop.enum or []),
        minimum=options.get("minimum"),
        maximum=options.get("maximum"),
        min_length=options.get("minLength"),
        max_length=options.get("maxLength"),
        pattern=options.get("pattern"),
        description=prop.description or "",
    )
