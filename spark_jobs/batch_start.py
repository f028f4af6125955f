"""What a micro-batch begins with, and keeps when it dies and comes again.

A batch that had come into some of its tables and is then judged by another contract or clock would
leave a record in two of them, or in none; one that then found other attributes would give events to
other keys. One is under way at a time: its note is enough.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_contracts.atomic_write import write_atomically
from data_contracts.clock import Clock
from data_contracts.contract import Contract, Field
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.dimensions import newest_version


@dataclass(frozen=True)
class Begun:
    """By what the records of a batch are judged, and from what they take attributes."""

    seq: int
    at: int
    """µs, this machine's clock: no record of the batch arrived later."""
    contract: Contract
    dimensions: Mapping[str, int]
    """Dimension -> the version of its table."""
    declared: Mapping[str, Sequence[str]] | None = None
    """Dimension -> its key and its attributes; None in the note of an older build."""


def begun_file(lake: Lake) -> Path:
    """The note of the last batch that began; none before the first."""
    return lake.stream / "begun.json"


def last_begun(lake: Lake) -> Begun | None:
    """What that batch began with."""
    path = begun_file(lake)
    if not path.exists():
        return None
    said = json.loads(path.read_text("utf-8"))
    return Begun(**{**said, "contract": _contract(said["contract"])})


class BatchStart:
    """Notes what batches begin with; of the one writer of a lake."""

    def __init__(self, use_case: UseCase, lake: Lake, clock: Clock) -> None:
        self._contract = use_case.contract
        self._dimensions = use_case.declared.dimensions
        self._lake = lake
        self._clock = clock
        self._last = last_begun(lake)

    def of(self, seq: int) -> Begun:
        """What batch `seq` began with; noted durably if it begins now.

        ValueError where it began with fields or dimensions that are not declared so any more.
        """
        begun = self._last
        if begun is None or begun.seq != seq:
            versions = {d.name: newest_version(self._lake, d) for d in self._dimensions}
            begun = Begun(seq, self._clock.now(), self._contract, versions, self._declared())
            write_atomically(begun_file(self._lake), json.dumps(asdict(begun)))
            self._last = begun
        if begun.declared not in (None, self._declared()):
            raise ValueError(
                f"{begun_file(self._lake)}: batch {seq} began with the dimensions {begun.declared} "
                "(each its key and attributes): run this once with those, which ends the batch"
            )
        declared = {name: field.type for name, field in self._contract.fields.items()}
        for name, field in begun.contract.fields.items():
            if declared.get(name) != field.type:
                raise ValueError(
                    f"{begun_file(self._lake)}: batch {seq} began under a contract that declares "
                    f"{name} as {field.type}: run this once under that contract, which ends the "
                    "batch"
                )
        return begun

    def _declared(self) -> dict[str, list[str]]:
        return {d.name: [d.key, *d.attributes] for d in self._dimensions}


def _contract(held: Mapping[str, Any]) -> Contract:
    fields: dict[str, Field] = {}
    for name, field in held["fields"].items():
        lists = {key: tuple(field[key]) for key in ("required_for", "values")}
        fields[name] = Field(**{**field, **lists})
    return Contract(**{**held, "fields": fields})
