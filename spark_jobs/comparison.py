"""One rehearsal compared: every engine against the oracle, value by value, with `==`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_contracts.clock import format_time
from data_contracts.dimension import DimensionRow
from data_contracts.features import FeatureGroup
from data_contracts.keys import key_in, text_of
from data_contracts.oracle import oracle_features
from data_contracts.oracle_dimension import oracle_attributes
from data_contracts.record import Event, Refused, check_event
from data_contracts.states import read
from data_contracts.use_case import UseCase
from spark_jobs.rehearsal import Loads, MemoryRehearsal, Record, Rehearsal
from spark_jobs.schedules import Schedule, exits

_EDGES = 9
DENSE, SPARSE = 0.35, 16
"""A key's row is compared where this share of its values is not the default, or the feature that
the schedule is drawn around is not; of the other rows one in SPARSE."""


@dataclass(frozen=True)
class Mismatch:
    """A value on which an engine and the oracle disagree."""

    feature: str
    key: str
    q: int
    oracle: float
    engine: str
    value: float
    events: tuple[Event, ...] = ()
    """The fewest events found that still show it."""
    tiles: tuple[Mapping[str, Any], ...] = ()
    """What these events are in the feature's window: its tiles, as `explain` shows them."""
    fewest: bool = True
    """Whether no event can be left out; False where the real parts, in which alone it is seen, were
    tried as often as is allowed."""

    def told(self) -> dict[str, Any]:
        """JSON-ready, times as RFC 3339."""
        times = ("event_time", "arrived_at")
        events = [
            {k: format_time(v) if k in times else v for k, v in e.items() if v is not None}
            for e in self.events
        ]
        return {
            **vars(self), "q": format_time(self.q), "events": events, "tiles": list(self.tiles)
        }  # fmt: skip


@dataclass
class Outcome:
    """What comparing one or many schedules gave."""

    compared: Counter[str] = field(default_factory=Counter[str])
    """Per feature: values compared (one for each engine beside the oracle)."""
    non_default: Counter[str] = field(default_factory=Counter[str])
    boundary: int = 0
    """Query times within 1 µs of an event entering or leaving a window of the group asked for."""
    moments: int = 0
    mismatches: list[Mismatch] = field(default_factory=list[Mismatch])

    def add(self, other: "Outcome") -> None:
        """Take another outcome's figures too."""
        self.compared += other.compared
        self.non_default += other.non_default
        self.boundary += other.boundary
        self.moments += other.moments
        self.mismatches += other.mismatches


def rehearse(
    use_case: UseCase, schedule: Schedule, lake: Rehearsal | None = None, all_engines: bool = True
) -> Outcome:
    """Run a schedule in `lake` (one in memory unless given) and compare after every batch that has
    records: `all_engines`, or before the last batch only the online one."""
    lake = lake or MemoryRehearsal(use_case)
    outcome, known, reading = Outcome(), Known(use_case), None
    for number, batch in enumerate(schedule.batches):
        lake.load(batch.loads)
        known.load(batch.loads)
        lake.take(batch.records, batch.killed, batch.amid)
        known.add(batch.records)
        if not batch.killed:
            lake.load(batch.amid)
        known.load(batch.amid)
        if batch.again:
            lake.again(batch.records, number + 1)
        if reading is not None:
            lake.commit(reading)
        reading = lake.read_days() if batch.reads else None
        if batch.upkeep:
            lake.maintain()
        last = number == len(schedule.batches) - 1
        if known.events and (last or batch.records):
            _compare(use_case, schedule, lake, known.events, outcome, all_engines or last)
    return outcome


class Known:
    """The events of records in order of arrival, found the naive way: the first of an id counts."""

    def __init__(self, use_case: UseCase) -> None:
        self._contract = use_case.contract
        self._dimensions = use_case.declared.dimensions
        self._rows: list[tuple[str, DimensionRow]] = []
        self._ids: set[str] = set()
        self.events: list[Event] = []

    def load(self, rows: Loads) -> None:
        """Take rows of dimensions, for the events that come from now on."""
        self._rows += rows

    def add(self, records: Sequence[Record]) -> None:
        """Take the records of a batch."""
        for record in records:
            said = record.said
            if said is None or said["event_id"] in self._ids:
                continue
            try:
                event = check_event(self._contract, said)
            except Refused:
                continue
            late, kept = event["arrived_at"] - event["event_time"], self._contract.retention
            if -late <= self._contract.max_future_skew and (kept is None or late <= kept):
                self._ids.add(event["event_id"])
                for dimension in self._dimensions:
                    rows = [row for name, row in self._rows if name == dimension.name]
                    event = oracle_attributes(dimension, rows, event)
                self.events.append(event)


def _compare(
    use_case: UseCase,
    schedule: Schedule,
    lake: Rehearsal,
    events: Sequence[Event],
    outcome: Outcome,
    all_engines: bool,
) -> None:
    as_of = lake.as_of
    for group in use_case.groups:
        asked_of = schedule.keys[group.key_fields]
        keys = [text_of(key) for key in asked_of]
        mine = [event for event in events if key_in(group.key_fields, event) in asked_of]
        focal = [i for i, f in enumerate(group.feature_names) if f == schedule.feature]
        boundary = _boundaries(group, mine, as_of)
        boundary |= {q for q in schedule.edges if focal and q > as_of + 1}
        later = (q for q in schedule.moments if q > as_of + 1)
        moments = sorted({*boundary, as_of, as_of + 1, *later})
        others = (lake.rebuilt(group), lake.trained(group, keys, moments)) if all_engines else None
        defaults = group.default_values()
        for j, q in enumerate(moments):
            wanted = np.array([oracle_features(group, mine, key, q) for key in asked_of])
            # Where nearly every window is empty little can go wrong: one in SPARSE is looked at.
            full = wanted != defaults
            dense = (full.mean(axis=1) >= DENSE) | full[:, focal].any(axis=1)
            asked = np.flatnonzero(dense | ((np.arange(len(keys)) + q) % SPARSE == 0))
            if not len(asked):
                continue
            outcome.moments += 1
            outcome.boundary += q in boundary
            found = {"online": lake.served(group, keys, q)}
            if others is not None:
                rebuilt, trained = others
                found["tiles"] = read(group, [rebuilt.get(key) for key in keys], q)
                found["training set"] = trained[:, j]
            moved = full[asked].sum(axis=0)
            for f, name in enumerate(group.feature_names):
                outcome.compared[name] += len(asked) * len(found)
                outcome.non_default[name] += int(moved[f]) * len(found)
            for engine, values in found.items():
                for i, f in np.argwhere(values[asked] != wanted[asked]):
                    name, k = group.feature_names[f], asked[i]
                    pair = float(wanted[k, f]), engine, float(values[k, f])
                    outcome.mismatches.append(Mismatch(name, keys[k], q, *pair))


def _boundaries(group: FeatureGroup, events: Sequence[Event], as_of: int) -> set[int]:
    """Up to nine moments from the as-of on: an event entering or leaving some window, ±1 µs."""
    found: set[int] = set()
    for i, event in enumerate(sorted(events, key=lambda e: -e["event_time"])):
        window = group.windows[i % len(group.windows)]
        t = event["event_time"]
        edges = [t, *exits(window, t)] if t >= as_of else exits(window, t)[1:]
        for edge in edges:
            found |= {q for q in (edge - 1, edge, edge + 1) if q >= as_of}
        if len(found) >= _EDGES:
            break
    return set(sorted(found)[:_EDGES])
