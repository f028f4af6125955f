"""A feature group: the one declaration that stream, backfill, training set and reader interpret."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from data_contracts.aggregates import EXACT, Accumulator, Aggregate, Columns, Count, Rate
from data_contracts.contract import Contract, Field
from data_contracts.windows import Window


@dataclass(frozen=True)
class FeatureGroup:
    """Aggregates x windows over the events of one entity.

    Features are named `{group}_{aggregate}_{window}`, every aggregate and rate over every window.
    """

    name: str
    entity: str
    """The event field that holds the key, e.g. `user_id`."""
    aggregates: Mapping[str, Aggregate]
    windows: tuple[Window, ...]
    rates: Mapping[str, Rate] = field(default_factory=dict[str, Rate])
    defaults: Mapping[str, float] = field(default_factory=dict[str, float])
    """Per aggregate: the value where its window holds nothing (0.0 unless declared)."""
    owner: str = ""
    description: str = ""

    @cached_property
    def accumulators(self) -> tuple[Accumulator, ...]:
        """The columns of this group's state, each once, in order of declaration."""
        every = [part for agg in self.aggregates.values() for part in agg.accumulators]
        return tuple(dict.fromkeys(every))

    @cached_property
    def hops(self) -> tuple[int, ...]:
        """The tile widths (µs) that this group's windows need, finest first."""
        return tuple(sorted({window.hop for window in self.windows}))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `finalize`, in its order."""
        return tuple(
            f"{self.name}_{value}_{window.label}"
            for window in self.windows
            for value in (*self.aggregates, *self.rates)
        )

    @cached_property
    def digest(self) -> str:
        """32 hex digits over everything that changes a value: not owner nor text."""
        semantics = {
            "entity": self.entity,
            "aggregates": {k: repr(v) for k, v in self.aggregates.items()},
            "rates": {k: repr(v) for k, v in self.rates.items()},
            "windows": [repr(window) for window in self.windows],
            "defaults": {k: repr(float(v)) for k, v in sorted(self.defaults.items())},
        }
        text = json.dumps(semantics, sort_keys=False).encode()
        return hashlib.blake2b(text, digest_size=16).hexdigest()

    def lift(self, events: Columns) -> np.ndarray:
        """int64[n, accumulators]: each event's own contribution to the state."""
        columns = [part.lift(events) for part in self.accumulators]
        return np.stack(columns, axis=1)

    def finalize(self, states: Mapping[Window, np.ndarray]) -> np.ndarray:
        """float64[n, features] from int64[n, accumulators] for each window."""
        index = {part: i for i, part in enumerate(self.accumulators)}
        values: list[np.ndarray] = []
        for window in self.windows:
            state = states[window]
            done: dict[str, np.ndarray] = {}
            for name, agg in self.aggregates.items():
                parts = [state[:, index[part]] for part in agg.accumulators]
                done[name] = agg.finalize(parts, self.defaults.get(name, 0.0))
            for name, rate in self.rates.items():
                done[name] = rate.finalize(done[rate.numerator], done[rate.denominator])
            values += done.values()
        return np.stack(values, axis=1)

    def default_values(self) -> np.ndarray:
        """float64[features]: what a key without any event is served."""
        identity = np.array([[part.identity for part in self.accumulators]], np.int64)
        return self.finalize(dict.fromkeys(self.windows, identity))[0]

    def check(self, contract: Contract) -> None:
        """Raise ValueError naming group and field for a declaration that cannot be right."""
        types = set(contract.event_types)
        names = contract.fields
        if self.entity not in names:
            raise ValueError(f"group {self.name}: entity {self.entity!r} is not in {contract.name}")
        if names[self.entity].type != "string":
            raise ValueError(f"group {self.name}: entity {self.entity!r} is not a string")
        if not self.aggregates or not self.windows:
            raise ValueError(f"group {self.name}: declare at least one aggregate and one window")
        try:
            _ = self.hops
        except ValueError as error:
            raise ValueError(f"group {self.name}: {error}") from error
        for part in self.accumulators:
            if unknown := set(part.where) - types:
                raise ValueError(
                    f"group {self.name}: event types {sorted(unknown)} are not declared"
                )
            if part.field is None:
                continue
            if part.field not in names:
                raise ValueError(f"group {self.name}: field {part.field!r} is not in the contract")
            self._check_number(part, names[part.field])
        for name, rate in self.rates.items():
            for side in (rate.numerator, rate.denominator):
                if not isinstance(self.aggregates.get(side), Count):
                    raise ValueError(f"group {self.name}: rate {name}: {side!r} is no Count")
            if not rate.strength > 0:
                raise ValueError(f"group {self.name}: rate {name}: strength must be above 0")
        if unknown := set(self.defaults) - set(self.aggregates):
            raise ValueError(f"group {self.name}: defaults for unknown {sorted(unknown)}")

    def _check_number(self, part: Accumulator, field: Field) -> None:
        if field.type not in ("integer", "number"):
            raise ValueError(
                f"group {self.name}: field {field.name!r} is {field.type}, not a number"
            )
        if part.counts:
            return
        if part.scale < 1:
            raise ValueError(f"group {self.name}: {field.name!r}: scale {part.scale} is below 1")
        if field.type == "number" and part.reduce == "add" and part.scale == 1:
            raise ValueError(
                f"group {self.name}: the sum of {field.name!r} needs a scale (e.g. 1000000): "
                "a float sum depends on the order of its events"
            )
        if field.minimum is None or field.maximum is None:
            raise ValueError(
                f"group {self.name}: {field.name!r}: declare minimum and maximum in the contract, "
                "or one valid event could overflow the state"
            )
        if max(-field.minimum, field.maximum) * part.scale >= EXACT:
            raise ValueError(
                f"group {self.name}: {field.name!r}: its range x scale {part.scale} reaches 2^53: "
                "lower one of them"
            )
