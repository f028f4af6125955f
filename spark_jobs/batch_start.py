"""What a micro-batch begins with, and keeps when it dies and comes again.

A batch that had come into some of its tables and is then judged by another contract or clock would
leave a record in two of them, or in none. One is under way at a time: its note is enough.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from data_contracts.clock import Clock
from data_contracts.contract import Contract, Field
from data_contracts.lake import Lake


@dataclass(frozen=True)
class Begun:
    """By what the records of a batch are judged."""

    seq: int
    at: int
    """µs, this machine's clock: no record of the batch arrived later."""
    contract: Contract


class BatchStart:
    """The note of a lake's one writer, `stream/begun.json`."""

    def __init__(self, contract: Contract, lake: Lake, clock: Clock) -> None:
        self._contract = contract
        self._clock = clock
        self._path = lake.stream / "begun.json"

    def of(self, seq: int) -> Begun:
        """What batch `seq` began with; noted durably if it begins now.

        ValueError where it began under a contract of fields that are not declared so any more.
        """
        begun = self._noted()
        if begun is None or begun.seq != seq:
            begun = Begun(seq, self._clock.now(), self._contract)
            self._note(begun)
        declared = {name: field.type for name, field in self._contract.fields.items()}
        for name, field in begun.contract.fields.items():
            if declared.get(name) != field.type:
                raise ValueError(
                    f"{self._path}: batch {seq} began under a contract that declares {name} as "
                    f"{field.type}: run this once under that contract, which ends the batch"
                )
        return begun

    def _noted(self) -> Begun | None:
        if not self._path.exists():
            return None
        held = json.loads(self._path.read_text("utf-8"))
        return Begun(held["seq"], held["at"], _contract(held["contract"]))

    def _note(self, begun: Begun) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        with open(part, "w", encoding="utf-8") as file:
            json.dump(asdict(begun), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._path)


def _contract(held: Mapping[str, Any]) -> Contract:
    fields: dict[str, Field] = {}
    for name, field in held["fields"].items():
        lists = {key: tuple(field[key]) for key in ("required_for", "values")}
        fields[name] = Field(**{**field, **lists})
    return Contract(**{**held, "fields": fields})
