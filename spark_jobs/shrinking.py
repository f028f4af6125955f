"""The smallest counterexample: a schedule cut down while its rehearsal still shows a mismatch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema

from data_contracts.keys import key_of
from data_contracts.record import Event
from data_contracts.use_case import UseCase
from spark_jobs.comparison import Known, Mismatch, Outcome, rehearse
from spark_jobs.explain import explained
from spark_jobs.schedules import Batch, Schedule
from spark_jobs.schemas import events_schema

TRIES = 40
"""How often a schedule that is cut down may run through the real parts, some seconds each time."""

_CALM: tuple[dict[str, Any], ...] = (
    {"killed": ""},
    {"again": False},
    {"reads": False},
    {"upkeep": False},
    {"loads": ()},
    {"amid": ()},
)
"""A batch without one of the things that may befall it."""


def shrunk(
    use_case: UseCase,
    schedule: Schedule,
    mismatch: Mismatch,
    through: Callable[[Schedule], Outcome] | None = None,
) -> Mismatch:
    """The mismatch with the fewest records that still show one (delta debugging, Zeller 1999).

    In memory; where the schedule shows none there, `through` is tried up to `TRIES` times.
    """
    run, tries = partial(rehearse, use_case), count()
    if through is not None and not run(schedule).mismatches:
        run, tries = through, range(TRIES)
    small, found, candidates = schedule, mismatch, _smaller(schedule)
    for _ in tries:
        if (candidate := next(candidates, None)) is None:
            break
        if (outcome := run(candidate)).mismatches:
            small, found, candidates = candidate, outcome.mismatches[0], _smaller(candidate)
    known = Known(use_case)
    for batch in small.batches:
        known.load(batch.loads)
        known.add(batch.records)
        known.load(batch.amid)
    events, fewest = tuple(known.events), next(candidates, None) is None
    return replace(found, events=events, tiles=_tiles(use_case, found, events), fewest=fewest)


def _tiles(
    use_case: UseCase, mismatch: Mismatch, events: Sequence[Event]
) -> tuple[Mapping[str, Any], ...]:
    """The tiles of the mismatch's window that the events are at its query time."""
    group = next(group for group in use_case.groups if mismatch.feature in group.features)
    before = [event for event in events if event["event_time"] < mismatch.q]
    mine = [event for event in before if key_of(group.key_fields, event) == mismatch.key]
    mine.sort(key=lambda event: (event["event_time"], event["event_id"]))
    schema = to_arrow_schema(events_schema(use_case.contract), timezone="UTC")
    table = pa.Table.from_pylist(mine, schema=schema)
    found = explained(group, mismatch.key, table, mismatch.q)
    return tuple(found.windows[group.features[mismatch.feature][1].label]["tiles"])


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    """The schedule without a batch, without ever smaller stretches of one, less disturbed."""
    batches = schedule.batches

    def cut(i: int, *instead: Batch) -> Schedule:
        return replace(schedule, batches=(*batches[:i], *instead, *batches[i + 1 :]))

    if len(batches) > 1:
        yield from (cut(i) for i in range(len(batches)))
    size = max(len(batch.records) for batch in batches)
    while size:
        for i, batch in enumerate(batches):
            records = batch.records
            for at in range(0, len(records), size) if size <= len(records) else ():
                yield cut(i, replace(batch, records=records[:at] + records[at + size :]))
        size //= 2
    for i, batch in enumerate(batches):
        for calm in _CALM:
            if any(getattr(batch, name) for name in calm):
                yield cut(i, replace(batch, **calm))
