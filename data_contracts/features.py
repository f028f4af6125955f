"""A feature group: the one declaration that stream, backfill, training set and reader interpret."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from data_contracts.accumulators import TIME, Accumulator, Decayed, Events, Source
from data_contracts.aggregates import Aggregate
from data_contracts.derived import Derived
from data_contracts.digest import digest_of
from data_contracts.entries import Entries, Part
from data_contracts.sketches import SKETCHES
from data_contracts.windows import RAW, Session, Tumbling, Window

STATE_BYTES = 16 * 1024
"""What the state of one key may take at worst, unless the group says otherwise."""

EVENTS = 2**20
"""How many events of one key a window holds at most, unless the group says otherwise."""

ENDS = Accumulator("max", Source(TIME))
"""The end of a session's segment: the time of its last event."""


@dataclass(frozen=True)
class Seen:
    """What `n` queries see through one window, before it is finalised."""

    n: int
    parts: Mapping[Part, np.ndarray]
    """int64[n] of an accumulator; int64[m, 1 + width] entries, the query's index first."""


@dataclass(frozen=True)
class FeatureGroup:
    """Aggregates x windows over the events of one entity.

    Features are named `{group}_{aggregate}_{window}`: every aggregate and derived feature over
    every window; an aggregate with several outputs has `{group}_{aggregate}{output}_{window}`.
    """

    name: str
    entity: str | tuple[str, str]
    """The event field that holds the key, e.g. `user_id`, or the two fields of a pair."""
    aggregates: Mapping[str, Aggregate]
    windows: tuple[Window, ...]
    derived: Mapping[str, Derived] = field(default_factory=dict[str, Derived])
    defaults: Mapping[str, float] = field(default_factory=dict[str, float])
    """Per aggregate: the value where its window holds nothing (0.0 unless declared)."""
    max_events: int = EVENTS
    """How many events of a key a window may hold before any sum could overflow, were each of them
    at the end of its field's declared range: a sum that could earlier is refused."""
    max_state_bytes: int = STATE_BYTES
    """What one key's state may take at worst, pending events and sketches apart; raise it
    knowingly."""
    max_sketch_bytes: int = STATE_BYTES
    """The same of its sketches, which have a view of their own."""
    ttl: str = ""
    """How long after its last event's arrival a key's row leaves the online store, e.g. `30d`; no
    value depends on it. Empty: never."""
    owner: str = ""
    description: str = ""

    @property
    def key_fields(self) -> tuple[str, ...]:
        """The event fields that hold the parts of the key."""
        return (self.entity,) if isinstance(self.entity, str) else tuple(self.entity)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What the aggregates read of a window, each once, in order of declaration."""
        every = [part for agg in self.aggregates.values() for part in agg.parts]
        return tuple(dict.fromkeys(every))

    @cached_property
    def _parts_of(self) -> Mapping[str, tuple[Part, ...]]:
        return {name: agg.parts for name, agg in self.aggregates.items()}

    @cached_property
    def accumulators(self) -> tuple[Accumulator, ...]:
        """The columns of this group's tiles, each once."""
        bases = [p.base if isinstance(p, Decayed) else p for p in self.parts]
        columns = [part for part in bases if isinstance(part, Accumulator)]
        if any(isinstance(window, Session) for window in self.windows):
            columns.append(ENDS)
        return tuple(dict.fromkeys(columns))

    @cached_property
    def entries(self) -> tuple[Entries, ...]:
        """The tables of entries beside this group's tiles, each once."""
        return tuple(part for part in self.parts if isinstance(part, Entries))

    @cached_property
    def places(self) -> Mapping[Part, int]:
        """Where each accumulator stands among its kind, and each table of entries among its."""
        both = (*enumerate(self.accumulators), *enumerate(self.entries))
        return {part: i for i, part in both}

    @cached_property
    def levels(self) -> Mapping[int, Window]:
        """The kinds of tiles that this group's windows need, each with a window that cuts them."""
        return {window.level: window for window in sorted(self.windows, key=lambda w: w.level)}

    @cached_property
    def open_levels(self) -> tuple[int, ...]:
        """Levels whose windows all end at *q*: of events older than the newest none comes back."""
        closed = {window.level for window in self.windows if isinstance(window, Tumbling)}
        return tuple(level for level in self.levels if level not in closed and level != RAW)

    @cached_property
    def features(self) -> Mapping[str, tuple[str, Window]]:
        """Feature -> the aggregate or derived feature and the window that it is of, in order."""
        return {feature: (name, window) for feature, name, window in self.declared}

    @property
    def declared(self) -> Iterator[tuple[str, str, Window]]:
        """(feature, the aggregate or derived feature, the window that it is of), in order."""
        values = [
            (name + out, name) for name, agg in self.aggregates.items() for out in agg.outputs
        ]
        values += [(name, name) for name in self.derived]
        for window in self.windows:
            for value, name in values:
                yield f"{self.name}_{value}_{window.label}", name, window

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `finalize`, in its order."""
        return tuple(self.features)

    @cached_property
    def digest(self) -> str:
        """32 hex digits over everything that changes a value: not owner, text nor limits."""
        semantics = {
            "entity": self.entity,
            "aggregates": {k: repr(v) for k, v in self.aggregates.items()},
            "derived": {k: repr(v) for k, v in self.derived.items()},
            "windows": [repr(window) for window in self.windows],
            "defaults": {k: repr(float(v)) for k, v in sorted(self.defaults.items())},
        }
        return digest_of(semantics)

    @cached_property
    def feature_digests(self) -> Mapping[str, str]:
        """Feature -> 32 hex digits over what changes its own value, in the order of the names.

        A feature keeps its digest when others are added to its group or leave it.
        """
        return {
            feature: digest_of([self.entity, repr(window), self._semantics(name)])
            for feature, (name, window) in self.features.items()
        }

    def _semantics(self, name: str) -> object:
        if name in self.derived:
            made = self.derived[name]
            return [repr(made), *(self._semantics(of) for of in made.of)]
        return [repr(self.aggregates[name]), repr(float(self.defaults.get(name, 0.0)))]

    def only(self, features: Collection[str]) -> "FeatureGroup":
        """The group with the aggregates, derived features and windows that `features` need; it may
        hold more of them than asked for. ValueError when it has none of them."""
        wanted = [of for name, of in self.features.items() if name in features]
        if not wanted:
            raise ValueError(f"group {self.name}: has none of {sorted(features)}")
        values = {name for name, _ in wanted}
        values |= {of for name in values & set(self.derived) for of in self.derived[name].of}
        windows = {window for _, window in wanted}
        return replace(
            self,
            aggregates={k: v for k, v in self.aggregates.items() if k in values},
            derived={k: v for k, v in self.derived.items() if k in values},
            windows=tuple(window for window in self.windows if window in windows),
            defaults={k: v for k, v in self.defaults.items() if k in values},
        )

    @property
    def sketched(self) -> tuple[str, ...]:
        """The features that need a sketch."""
        sketches = {name for name, of in self.aggregates.items() if isinstance(of, SKETCHES)}
        sketches |= {name for name, made in self.derived.items() if sketches & {*made.of}}
        return tuple(feature for feature, (name, _) in self.features.items() if name in sketches)

    @property
    def state_bytes(self) -> int:
        """The most that one key's state takes, events that wait for the as-of apart."""
        tiles = dict.fromkeys(self.levels, 0)
        for window in self.windows:
            tiles[window.level] = max(tiles[window.level], window.tiles)
        total = sum(tiles.values()) * (16 + 8 * len(self.accumulators))
        for part in self.entries:
            for level, count in tiles.items():
                once = part.newest and level in self.open_levels
                total += (1 if once else count) * part.keep * (4 + 8 * part.width)
        return total

    def lift(self, events: Events) -> np.ndarray:
        """int64[n, accumulators]: each event's own contribution to the state."""
        columns = [part.lift(events) for part in self.accumulators]
        return np.stack(columns, axis=1) if columns else np.empty((len(events), 0), np.int64)

    def finalize(self, states: Mapping[Window, Seen], q: np.ndarray) -> np.ndarray:
        """float64[n, features] from what each window holds at `q` (int64[n] µs)."""
        values: list[np.ndarray] = []
        for window in self.windows:
            seen = states[window].parts
            done: dict[str, np.ndarray] = {}
            for name, agg in self.aggregates.items():
                parts = [seen[part] for part in self._parts_of[name]]
                done[name] = agg.finalize(parts, q, self.defaults.get(name, 0.0))
            for name, made in self.derived.items():
                done[name] = made.finalize(*(done[of] for of in made.of))
            values += done.values()
        return np.concatenate(values, axis=1)

    def default_values(self) -> np.ndarray:
        """float64[features]: what a key without any event is served."""
        nothing = self.nothing(1)
        return self.finalize(dict.fromkeys(self.windows, nothing), np.zeros(1, np.int64))[0]

    def nothing(self, n: int) -> Seen:
        """What `n` queries see where there is no event."""
        parts: dict[Part, np.ndarray] = {}
        for part in self.parts:
            if isinstance(part, Entries):
                parts[part] = np.empty((0, 1 + part.width), np.int64)
            else:
                parts[part] = np.full(n, part.identity, np.int64)
        return Seen(n, parts)
