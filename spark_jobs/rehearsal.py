"""A lake in memory under the writer, tiles and merge of the real one, to be disordered at will.

Only Spark, Delta and Feast are absent: gate, admission, state codec, packed tiles and the merge of
tiles with later events are the ones that run in production.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema

from data_contracts import point_in_time
from data_contracts.clock import day_of
from data_contracts.dimension import AsOf, Dimension, DimensionRow
from data_contracts.features import FeatureGroup
from data_contracts.states import State, decode, encode, idle_keys, read
from data_contracts.use_case import UseCase
from spark_jobs.admission import Admission
from spark_jobs.attributes import filled
from spark_jobs.columns import arrivals, codes, queried_events, with_key
from spark_jobs.folding import base_rows, forgets_nothing, horizon
from spark_jobs.gate import judge
from spark_jobs.materialize import merged_states
from spark_jobs.schemas import TILES, events_schema, gated_schema
from spark_jobs.seen_events import Place, SeenEvents
from spark_jobs.tiles import day_tiles
from spark_jobs.writer import BatchWriter


class Killed(Exception):
    """The writer died here."""


Loads = Sequence[tuple[str, DimensionRow]]
"""Rows of dimensions to be loaded, each with the dimension's name."""


@dataclass(frozen=True)
class Record:
    """One raw record and where it stands."""

    origin: str
    line: int
    payload: bytes

    @property
    def said(self) -> dict[str, Any] | None:
        """Its JSON object; None for a record that is none."""
        try:
            return json.loads(self.payload)
        except ValueError:
            return None


class MemoryStates:
    """Packed states by group and key; `dies_at` writes are only half done, then the writer dies."""

    def __init__(self) -> None:
        self.packed: dict[tuple[str, str], bytes] = {}
        self.dies_at: int | None = None

    def read(self, group: FeatureGroup, keys: Iterable[str]) -> dict[str, State]:
        """The states of those keys that have one."""
        known = {key: self.packed.get((group.name, key)) for key in keys}
        return {k: decode(group, v) for k, v in known.items() if v is not None}

    def write(self, group: FeatureGroup, states: Mapping[str, State]) -> None:
        """Replace the states of those keys."""
        dying = self.dies_at == 0
        if self.dies_at is not None:
            self.dies_at -= 1
        for i, (key, state) in enumerate(states.items()):
            if dying and 2 * i >= len(states):
                break
            self.packed[group.name, key] = encode(group, state)
        if dying:
            raise Killed


@dataclass
class MemoryTables:
    """Events by seq, and the tiles of days with the seq up to which they hold."""

    schema: pa.Schema
    dies_at: str = ""
    """`before` or `after` the append."""
    events: dict[int, pa.Table] = field(default_factory=dict[int, pa.Table])
    tiles: dict[str, dict[str, list[dict[str, Any]]]] = field(
        default_factory=dict[str, dict[str, list[dict[str, Any]]]]
    )
    """Group -> day -> tile rows."""
    bases: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    """Group -> the rows of its base."""

    def append(self, admission: Admission, seq: int) -> None:
        """Add the events of `seq`, unless they are there already."""
        if self.dies_at == "before":
            raise Killed
        if len(admission.events):
            events = admission.events.select(self.schema.names).cast(self.schema)
            self.events.setdefault(seq, events)
        if self.dies_at == "after":
            raise Killed

    def places(self, ids: Sequence[str]) -> dict[str, Place]:
        """Where the events of these ids came from."""
        rows = self.upto(max(self.events)).select(["event_id", "origin", "line"]).to_pylist()
        known = {row["event_id"]: (row["origin"], row["line"]) for row in rows}
        return {name: known[name] for name in ids}

    def upto(self, seq: int) -> pa.Table:
        """The events of a seq up to this."""
        tables = [table for number, table in sorted(self.events.items()) if number <= seq]
        return pa.concat_tables([self.schema.empty_table(), *tables])


@dataclass
class MemoryDimensions:
    """Rows in the order in which they were loaded, and how many each batch began with."""

    declared: Sequence[Dimension]
    rows: list[tuple[str, DimensionRow]] = field(default_factory=list[tuple[str, DimensionRow]])
    begun: dict[int, int] = field(default_factory=dict[int, int])

    def fill(self, events: pa.Table, seq: int) -> pa.Table:
        """The events of batch `seq` with what was loaded when it first began."""
        rows = self.rows[: self.begun.setdefault(seq, len(self.rows))]
        tables = {d.name: AsOf(row for name, row in rows if name == d.name) for d in self.declared}
        return filled(self.declared, tables, events)


@dataclass(frozen=True)
class Backfill:
    """A backfill between its read and its commit."""

    seq: int
    rows: Mapping[str, Mapping[str, list[dict[str, Any]]]]


class Rehearsal(Protocol):
    """A lake that takes batches in order, disturbed as asked, and answers as each engine does."""

    as_of: int
    """The latest arrival of any event (µs); queries are at or after it."""

    def load(self, rows: Loads) -> None:
        """Load rows of dimensions."""
        ...

    def take(self, records: Sequence[Record], killed: str = "", amid: Loads = ()) -> None:
        """The next micro-batch. `killed`: "" or where the writer dies before the batch runs again:
        `online` (amid the states of the first group), `between` (amid those of the last),
        `before` or `after` (the append of the events). `amid` is loaded between the two runs."""
        ...

    def again(self, records: Sequence[Record], seq: int) -> None:
        """A batch that was committed runs once more under its number, in a writer of its own."""
        ...

    def read_days(self) -> Any:
        """What a backfill of all days reads and packs now, to be committed later."""
        ...

    def commit(self, backfill: Any) -> None:
        """Replace the days' tiles, but for those that hold a higher seq by now."""
        ...

    def maintain(self) -> None:
        """Upkeep between two batches."""
        ...

    def served(self, group: FeatureGroup, keys: Sequence[str], q: int) -> np.ndarray:
        """float64[keys, features] as the server reads them."""
        ...

    def rebuilt(self, group: FeatureGroup) -> dict[str, State]:
        """The states that tiles and the events above them give."""
        ...

    def trained(self, group: FeatureGroup, keys: Sequence[str], q: Sequence[int]) -> np.ndarray:
        """float64[keys, q, features] as the training set computes them, straight from events."""
        ...


class MemoryRehearsal:
    """A rehearsal without Spark, Delta and Feast: thousands of times faster."""

    def __init__(self, use_case: UseCase) -> None:
        self.use_case = use_case
        self._gated = to_arrow_schema(gated_schema(use_case.contract), timezone="UTC")
        schema = to_arrow_schema(events_schema(use_case.contract), timezone="UTC")
        self.online = MemoryStates()
        self.tables = MemoryTables(schema)
        self.dimensions = MemoryDimensions(use_case.declared.dimensions)
        self.seq = 0
        self.as_of = np.iinfo(np.int64).min
        self._writer = self._restarted()

    def load(self, rows: Loads) -> None:
        """See `Rehearsal`."""
        self.dimensions.rows += rows

    def take(self, records: Sequence[Record], killed: str = "", amid: Loads = ()) -> None:
        """See `Rehearsal`."""
        gated = self.gate(records)
        seq = self.seq + 1
        if killed:
            last = len(self.use_case.groups) - 1
            self.online.dies_at = {"online": 0, "between": last}.get(killed)
            self.tables.dies_at = killed
            with suppress(Killed):
                self._writer.take(gated, seq)
            self.online.dies_at, self.tables.dies_at = None, ""
            self.load(amid)
            self._writer = self._restarted(below=seq)
        self._writer.take(gated, seq)
        self.seq = seq
        if seq in self.tables.events:
            self.as_of = max(self.as_of, int(arrivals(self.tables.events[seq]).max()))

    def again(self, records: Sequence[Record], seq: int) -> None:
        """See `Rehearsal`."""
        self._restarted(below=seq).take(self.gate(records), seq)

    def read_days(self) -> Backfill:
        """See `Rehearsal`."""
        events = self._with_day(self.tables.upto(self.seq))
        rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for group in self.use_case.groups:
            keyed = with_key(group, events)
            days: dict[str, list[dict[str, Any]]] = {}
            for row in day_tiles(group, keyed, self.seq):
                days.setdefault(row["day"], []).append(row)
            rows[group.name] = days
        return Backfill(self.seq, rows)

    def commit(self, backfill: Backfill) -> None:
        """See `Rehearsal`."""
        for name, days in backfill.rows.items():
            held = self.tables.tiles.setdefault(name, {})
            for day, rows in days.items():
                if day not in held or held[day][0]["seq"] <= backfill.seq:
                    held[day] = rows

    def maintain(self) -> None:
        """See `Rehearsal`; tiles are filled first, bases hold every day before the present one, and
        a state that nothing reaches counts as one whose ttl has passed: more than is done at once
        in production, where a schedule of some hours would leave nothing to fold."""
        if not self.tables.events:
            return
        self.commit(self.read_days())
        for group in self.use_case.groups:
            whole = forgets_nothing(group)
            day = day_of(self.as_of) if whole else horizon(group, self.as_of)
            tiles = self.tables.tiles[group.name]
            if whole and any(built < day for built in tiles):
                states = merged_states(group, *self._held(group, day), self.seq, self.as_of)
                self.tables.bases[group.name] = base_rows(group, states, day)
            for built in [built for built in tiles if built < day]:
                del tiles[built]
            keys = [key for name, key in self.online.packed if name == group.name]
            for key in idle_keys(group, self.online.read(group, keys), self.as_of):
                del self.online.packed[group.name, key]

    def served(self, group: FeatureGroup, keys: Sequence[str], q: int) -> np.ndarray:
        """See `Rehearsal`."""
        found = self.online.read(group, keys)
        return read(group, [found.get(key) for key in keys], q)

    def rebuilt(self, group: FeatureGroup) -> dict[str, State]:
        """See `Rehearsal`."""
        packed, later = self._held(group, day_of(self.as_of), also_later=True)
        return merged_states(group, packed, later, self.seq, self.as_of)

    def trained(self, group: FeatureGroup, keys: Sequence[str], q: Sequence[int]) -> np.ndarray:
        """See `Rehearsal`."""
        events = with_key(group, self.tables.upto(self.seq))
        index, _ = codes(pa.chunked_array([*events["key"].chunks, pa.array(list(keys))]))
        asked = np.repeat(index[len(events) :], len(q))
        moments = np.tile(np.array(q, np.int64), len(keys))
        own = index[: len(events)]
        read_as = queried_events(group, own, events)
        seen = point_in_time.window_states(group, own, read_as, asked, moments)
        return group.finalize(seen, moments).reshape(len(keys), len(q), -1)

    def gate(self, records: Sequence[Record]) -> pa.Table:
        """The records as the stream's gate passes them on."""
        contract = self.use_case.contract
        rows = [judge(contract, r.origin, r.line, r.payload) for r in records]
        return pa.Table.from_pylist(rows, schema=self._gated)

    def _restarted(self, below: int = 1) -> BatchWriter:
        seen = SeenEvents(self.tables.places)
        seen.add(self.tables.upto(below - 1))
        parts = (self.online, self.tables, seen, self.dimensions)
        return BatchWriter(lambda: self.use_case.groups, *parts)

    def _held(
        self, group: FeatureGroup, today: str, also_later: bool = False
    ) -> tuple[pa.Table, pa.Table]:
        """Base and tiles of the days before `today`, and the events above them: of these days, or
        of later ones too."""
        base = self.tables.bases.get(group.name, [])
        folded, base_seq = (base[0]["day"], base[0]["seq"]) if base else ("", 0)
        days = self.tables.tiles.get(group.name, {})
        days = {day: rows for day, rows in days.items() if folded <= day < today}
        built = {day: rows[0]["seq"] for day, rows in days.items()}
        tiles = [*base, *(row for rows in days.values() for row in rows)]
        events = with_key(group, self._with_day(self.tables.upto(self.seq)))
        above = [
            seq > (base_seq if day < folded else built.get(day, 0)) and (also_later or day < today)
            for seq, day in zip(events["seq"].to_pylist(), events["day"].to_pylist(), strict=True)
        ]
        packed = pa.Table.from_pylist(tiles, schema=to_arrow_schema(TILES))
        return packed, events.filter(pa.array(above, pa.bool_()))

    def _with_day(self, events: pa.Table) -> pa.Table:
        days = [time.date().isoformat() for time in events["event_time"].to_pylist()]
        return events.append_column("day", pa.array(days, pa.string()))
