"""The order of a micro-batch, over whichever store and tables hold its outcome.

What makes a batch that is taken twice change nothing: dedupe against events of a *lower* seq; merge
into the packed online state (keys that carry the seq already are skipped); then one append.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from data_contracts.features import FeatureGroup
from data_contracts.states import State, advance
from spark_jobs.admission import Admission, SeenEvents
from spark_jobs.columns import arrivals, keyed_rows


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


class BatchWriter:
    """Takes gated micro-batches in the order of their seq; `live` gives the groups to keep up."""

    def __init__(
        self,
        live: Callable[[], Sequence[FeatureGroup]],
        online: States,
        tables: Tables,
        seen: SeenEvents,
    ) -> None:
        self._live = live
        self._online = online
        self._tables = tables
        self._seen = seen

    def take(self, gated: pa.Table, seq: int) -> int:
        """Take the records of batch `seq` (schema `gated_schema`); returns how many are events."""
        admission = self._seen.admit(gated, seq)
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
