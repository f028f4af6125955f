"""Rebuilt states on their way into the online store: written by any process, loaded by its writer.

A file holds the states of one view up to a seq. The writer replaces key by key what the store holds
by the rebuilt state with the events since merged into it, between its micro-batches.
"""

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.states import State, advance, decodable, decode_all, encode, idle_keys, read
from data_contracts.use_case import UseCase
from data_contracts.views import View, ViewRegistry
from data_contracts.windows import HOPS
from spark_jobs.columns import arrivals, keyed_rows, with_key
from spark_jobs.events import arrival, load_events
from spark_jobs.feature_store import OnlineStates
from spark_jobs.online_store import LISTED_AT_ONCE

KEYS_AT_ONCE = 2_000
"""How many keys are looked at between two micro-batches."""
_SEQ = b"seq"


def rebuilt_file(lake: Lake, name: str) -> Path:
    """Where the rebuilt states of the view `name` lie."""
    return lake.rebuilt / f"{name}.parquet"


def keep_rebuilt(
    lake: Lake, group: FeatureGroup, states: Mapping[str, State], name: str, seq: int
) -> None:
    """Write the states of a view, which hold the events up to `seq`, for its writer."""
    path = rebuilt_file(lake, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = [encode(group, state) for state in states.values()]
    table = {"key": pa.array(states, pa.string()), "state": pa.array(packed, pa.binary())}
    part = path.with_suffix(f".{os.getpid()}.part")
    rows = pa.table(table, metadata={_SEQ: str(seq)})
    pq.write_table(rows, part, row_group_size=KEYS_AT_ONCE)
    part.replace(path)


def loaded_at(lake: Lake, name: str) -> int:
    """When the latest part of a view's rebuilt states was loaded, or their file written (ns); 0
    where there is no file."""
    try:
        return rebuilt_file(lake, name).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def loading(
    spark: SparkSession, use_case: UseCase, lake: Lake, online: OnlineStates, view: View
) -> Iterator[None]:
    """Load the rebuilt states of `view`; yields after every `KEYS_AT_ONCE` keys.

    To be driven by the holder of the writer's lease, never within a micro-batch: events of any seq
    that is in the table are merged. A key that comes up while this goes on has its whole state from
    the writer, which keeps the view up. The view's record says what was found in the end.

    A state that the store lacks differs in every value, unless upkeep may have removed it. Where
    the store lost whole batches, which stops the stream, what it lacks is filled, not compared. A
    state of which no event is left differs in every value too, and is removed, in the end.
    """
    group, path = view.group, rebuilt_file(lake, view.name)
    file = pq.ParquetFile(path)
    as_of = compared = differ = lost = superfluous = 0
    held, taken = int(file.schema_arrow.metadata[_SEQ]), _commits(lake)
    later, seq, latest = _after(spark, use_case, lake, group, held)
    # A batch marks the store before its append: a lower mark is that of a store which lost some.
    whole, upto = online.require(0) >= seq, seq
    known = set(file.read(["key"])["key"].to_pylist())
    new = [key for key in _keys(later) if key not in known]
    for now, base in _parts(file, new):
        if (commits := _commits(lake)) > taken:
            fresh, seq, arrived = _after(spark, use_case, lake, group, seq)
            later, taken = pa.concat_tables([later, fresh]), commits
            latest = max(latest, arrived)
        states = decode_all(group, base)
        states |= _caught_up(group, states, later, now, seq)
        as_of = max([as_of, *(state.as_of for state in states.values())])
        latest = max(latest, as_of)
        if view.status == "ready":
            packed = online.packed(group, now)
            gone = _gone(group, packed, states, latest) if whole else 0
            same, other = compare_states(group, packed, states)
            compared += same + gone * len(group.feature_names)
            differ += other + gone * len(group.feature_names)
            lost += gone
        online.write(group, states)
        with suppress(FileNotFoundError):
            os.utime(path)
        yield
    known.update(new)
    for removed in _removing_superfluous(online, group, known, upto, latest):
        superfluous += removed
        with suppress(FileNotFoundError):
            os.utime(path)
        yield
    if view.status == "ready":
        compared += superfluous * len(group.feature_names)
        differ += superfluous * len(group.feature_names)
    ViewRegistry(lake).change(
        view, status="ready", rebuilt=None, keys=len(known), as_of=as_of, compared=compared,
        mismatches=differ, lost=lost, superfluous=superfluous,
    )  # fmt: skip


def _parts(
    file: pq.ParquetFile, new: Sequence[str]
) -> Iterator[tuple[list[str], dict[str, bytes]]]:
    """`KEYS_AT_ONCE` keys and what is packed of them: those of the file, then the `new` ones."""
    for batch in file.iter_batches(KEYS_AT_ONCE):
        packed = dict(zip(batch["key"].to_pylist(), batch["state"].to_pylist(), strict=True))
        yield list(packed), packed
    for begin in range(0, len(new), KEYS_AT_ONCE):
        yield list(new[begin : begin + KEYS_AT_ONCE]), {}


def _commits(lake: Lake) -> int:
    """How often the events table was written: where that stands still, no event has come."""
    return DeltaTable(lake.events).version()


def _gone(
    group: FeatureGroup, packed: Mapping[str, bytes], new: Mapping[str, State], as_of: int
) -> int:
    """How many keys the store lacks though a window still reaches an event of theirs at `as_of`
    (µs, the latest arrival): upkeep removes no such state."""
    absent = {key: state for key, state in new.items() if key not in packed}
    return len(absent) - len(idle_keys(group, absent, as_of))


def _removing_superfluous(
    online: OnlineStates, group: FeatureGroup, known: Set[str], seq: int, as_of: int
) -> Iterator[int]:
    """Remove the states of keys that are not `known`, where a window still reaches something of
    them at `as_of` (µs, the latest arrival) or they cannot be decoded; yields after every
    `LISTED_AT_ONCE` keys of the store how many were.

    What was written above `seq` is the writer's: it came to the key since, or will take the batch
    again.
    """
    stored = online.keys(group)
    while listed := list(islice(stored, LISTED_AT_ONCE)):
        packed = online.packed(group, [key for key in listed if key not in known])
        old = decodable(group, packed)
        settled = {key: state for key, state in old.items() if state.seq <= seq}
        reached = settled.keys() - {*idle_keys(group, settled, as_of)}
        superfluous = [key for key in packed if key in reached or key not in old]
        online.remove(group, superfluous)
        yield len(superfluous)


def compare_states(
    group: FeatureGroup, packed: Mapping[str, bytes], new: Mapping[str, State]
) -> tuple[int, int]:
    """(values compared, values that differ) at the new states' as-of and as the windows fall after.

    A state that cannot be decoded differs in every value. One that is ahead of the events table is
    not compared: its batch died before the append and will come again.
    """
    old = decodable(group, packed)
    compared = differ = (len(packed) - len(old)) * len(group.feature_names)
    keys = [key for key in old if old[key].seq <= new[key].seq]
    for q in _moments(max(new[key].as_of for key in keys)) if keys else ():
        before = read(group, [old[key] for key in keys], q)
        after = read(group, [new[key] for key in keys], q)
        compared += before.size
        differ += int((before != after).sum())
    return compared, differ


def _moments(as_of: int) -> Iterator[int]:
    yield as_of + 1
    for hop in HOPS:
        yield as_of + hop
        yield (as_of // hop + 2) * hop


def _after(
    spark: SparkSession, use_case: UseCase, lake: Lake, group: FeatureGroup, seq: int
) -> tuple[pa.Table, int, int]:
    """The events above `seq` under their `key` of the group, the highest seq of the table, and the
    latest arrival (µs) among all events above `seq`, 0 where there are none."""
    events = load_events(spark, use_case, lake).where(sf.col("seq") > seq)
    found = with_key(group, events.toArrow())
    newest = events.agg(sf.max("seq"), sf.unix_micros(sf.max(arrival(events)))).first()
    return (found, newest[0], newest[1]) if newest and newest[0] else (found, seq, 0)


def _keys(events: pa.Table) -> list[str]:
    return events["key"].unique().to_pylist()


def _caught_up(
    group: FeatureGroup, states: Mapping[str, State], later: pa.Table, keys: list[str], seq: int
) -> dict[str, State]:
    """The states of those of `keys` that `later` touches, with it merged in."""
    wanted = pc.SetLookupOptions(pa.array(keys, pa.string()))
    touched = pc.call_function("is_in", [later["key"]], wanted)
    mine = later.filter(touched).drop_columns(["key"])
    if not len(mine):
        return {}
    names, rows = keyed_rows(group, mine)
    return advance(group, states, names, rows, seq, int(np.max(arrivals(mine))))
