"""What a micro-batch begins with, and keeps when it dies and comes again.

A batch that had come into some of its tables and is then judged by another contract or clock would
leave a record in two of them, or in none. One is under way at a time: its note is enough.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from data_contracts.clock import Clock
from data_contracts.contract import Contract, Field
from data_contracts.lake import Lake
from spark_jobs.batch_notes import batch_notes, note_batch_alone

_NAME = "begun"


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
        held = batch_notes(self._path, _NAME).get(seq)
        if held is None:
            begun = Begun(seq, self._clock.now(), self._contract)
            said = {"at": begun.at, "contract": asdict(self._contract)}
            note_batch_alone(self._path, seq, _NAME, said)
        else:
            begun = Begun(seq, held["at"], _contract(held["contract"]))
        declared = {name: field.type for name, field in self._contract.fields.items()}
        for name, field in begun.contract.fields.items():
            if declared.get(name) != field.type:
                raise ValueError(
                    f"{self._path}: batch {seq} began under a contract that declares {name} as "
                    f"{field.type}: run this once under that contract, which ends the batch"
                )
        return begun


def _contract(held: Mapping[str, Any]) -> Contract:
    fields: dict[str, Field] = {}
    for name, field in held["fields"].items():
        lists = {key: tuple(field[key]) for key in ("required_for", "values")}
        fields[name] = Field(**{**field, **lists})
    return Contract(**{**held, "fields": fields})
