"""The order of a micro-batch, over whichever store and tables hold its outcome.

What makes a batch that is taken twice change nothing: dedupe against events of a *lower* seq; take
over what the dimensions held when it first began; merge into the packed online state (keys that
carry the seq already are skipped); then one append.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import pyarrow as pa

from data_contracts.features import FeatureGroup
from data_contracts.states import State, advance
from spark_jobs.admission import Admission, Row, admit
from spark_jobs.columns import arrivals, keyed_rows
from spark_jobs.seen_events import SeenEvents


class States(Protocol):
    """Packed states by key; written by one writer only."""

    def read(self, group: FeatureGroup, keys: Iterable[str]) -> dict[str, State]:
        """The states of those keys that have one."""
        ...

    def write(self, group: FeatureGroup, states: Mapping[str, State]) -> None:
        """Replace the states of those keys."""
        ...


class Tables(Protocol):
    """Where the records of a batch end."""

    def append(self, admission: Admission, seq: int) -> None:
        """Add them, unless those of `seq` are there already."""
        ...


class Dimensions(Protocol):
    """Tables from which events take the fields that they do not carry."""

    def fill(self, events: pa.Table, seq: int) -> pa.Table:
        """The events of batch `seq` with what the tables held when it was first begun."""
        ...


class BatchWriter:
    """Takes gated micro-batches in the order of their seq; `live` gives the groups to keep up."""

    def __init__(
        self,
        live: Callable[[], Sequence[FeatureGroup]],
        online: States,
        tables: Tables,
        seen: SeenEvents,
        dimensions: Dimensions,
    ) -> None:
        self._live = live
        self._online = online
        self._tables = tables
        self._seen = seen
        self._dimensions = dimensions

    def take(self, gated: pa.Table, seq: int) -> int:
        """Take the records of batch `seq` (schema `gated_schema`); returns how many are events."""
        admission = admit(gated, seq, self._seen)
        # Only now: what an event says itself, by which duplicates are found, is not touched.
        admission = replace(
            admission,
            events=self._dimensions.fill(admission.events, seq),
            quarantine=_with_arrival(admission.quarantine, gated),
        )
        self._merge_online(admission.events, seq)
        self._tables.append(admission, seq)
        self._seen.add(admission.events)
        return len(admission.events)

    def _merge_online(self, events: pa.Table, seq: int) -> None:
        """Merge the batch into the state of every key it touches; readable from here on."""
        if not len(events):
            return
        as_of = int(arrivals(events).max())
        for group in self._live():
            keys, fresh = keyed_rows(group, events)
            states = self._online.read(group, keys)
            self._online.write(group, advance(group, states, keys, fresh, seq, as_of))


def _with_arrival(rows: list[Row], gated: pa.Table) -> list[Row]:
    """Rows of the quarantine with when their source took them: by that they were judged."""
    said = gated.filter(gated["arrived"].is_valid()) if rows else gated.slice(0, 0)
    columns = [said[name].to_pylist() for name in ("origin", "line", "arrived")]
    arrived = {(origin, line): at for origin, line, at in zip(*columns, strict=True)}
    return [{**row, "arrived": arrived.get((row["origin"], row["line"]))} for row in rows]
