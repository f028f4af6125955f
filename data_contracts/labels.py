"""What a label is: which events are rows, what makes a row positive, and until when."""

from collections.abc import Mapping
from dataclasses import dataclass

from data_contracts.clock import duration
from data_contracts.contract import Contract
from data_contracts.digest import digest_of
from data_contracts.naming import naming


@dataclass(frozen=True)
class Label:
    """One row per event of type `on`; positive when a matching event follows in time.

    Positive: an event of a type in `positive`, whose fields equal the row's by `match`, at a time
    t with row time <= t <= row time + `within`.
    """

    on: str
    positive: tuple[str, ...]
    match: Mapping[str, str]
    """Row field -> field of the positive event, e.g. `{"event_id": "impression_id"}`."""
    within: str
    first_per: tuple[str, ...] = ()
    """Keep only the earliest row (ties by event_id) of each combination of these fields."""
    complete_by: tuple[str, ...] = ()
    """Further event types that come the way the positives come, such as a heartbeat of the tracker:
    where positives are rare, they too show how far the log has them."""

    @property
    def window(self) -> int:
        """The attribution window in µs; a row is mature once positives are complete to its end."""
        return duration(self.within)

    @property
    def witnesses(self) -> tuple[str, ...]:
        """The types whose latest event tells up to when the positives are complete.

        Rows go on while the stream of their outcomes stands, so they tell nothing of it.
        """
        return (*self.positive, *self.complete_by)

    @property
    def digest(self) -> str:
        """32 hex digits over everything that decides which rows there are and what they are."""
        sides = [sorted(self.match.items()), sorted(self.first_per), sorted(self.complete_by)]
        return digest_of([self.on, sorted(self.positive), self.window, *sides])

    def check(self, contract: Contract) -> None:
        """Raise ValueError naming the field when the label does not fit the contract."""
        with naming("label: within"):
            duration(self.within)
        if not self.positive or not self.match:
            raise ValueError("label: `positive` and `match` must name what makes a row positive")
        if unknown := {self.on, *self.witnesses} - set(contract.event_types):
            raise ValueError(f"label: event types {sorted(unknown)} are not declared")
        if self.on in self.complete_by:
            raise ValueError(
                f"label: complete_by: {self.on!r} are the rows and tell nothing of their outcomes: "
                "name a type that comes the way the positives come"
            )
        named = {*self.match, *self.match.values(), *self.first_per}
        if unknown := named - set(contract.fields):
            raise ValueError(f"label: fields {sorted(unknown)} are not in {contract.name}")
        for ours, theirs in self.match.items():
            if contract.fields[ours].type != contract.fields[theirs].type:
                raise ValueError(f"label: {ours!r} and {theirs!r} differ in type and never match")
