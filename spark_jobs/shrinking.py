"""The smallest counterexample: a schedule cut down while its rehearsal still shows a mismatch."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from data_contracts.use_case import UseCase
from spark_jobs.comparison import Known, Mismatch, rehearse
from spark_jobs.schedules import Batch, Schedule

_CALM: tuple[dict[str, Any], ...] = (
    {"killed": ""},
    {"again": False},
    {"reads": False},
    {"upkeep": False},
    {"loads": ()},
    {"amid": ()},
)
"""A batch without one of the things that may befall it."""


def shrunk(use_case: UseCase, schedule: Schedule, mismatch: Mismatch) -> Mismatch:
    """The mismatch with the fewest records that still show one: delta debugging, one at a time."""
    small, found = schedule, mismatch
    progress = True
    while progress:
        progress = False
        for candidate in _smaller(small):
            outcome = rehearse(use_case, candidate)
            if outcome.mismatches:
                small, found, progress = candidate, outcome.mismatches[0], True
                break
    known = Known(use_case)
    for batch in small.batches:
        known.load(batch.loads)
        known.add(batch.records)
        known.load(batch.amid)
    return replace(found, events=tuple(known.events))


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    """The schedule without a batch, without half of one, without one record, less disturbed."""
    batches = schedule.batches
    for i, batch in enumerate(batches):
        records = batch.records
        half = len(records) // 2
        cuts: list[tuple[Batch, ...]] = [()]
        if half:
            cuts += [(replace(batch, records=part),) for part in (records[:half], records[half:])]
        if len(records) <= 12:
            for j in range(len(records)):
                cuts.append((replace(batch, records=records[:j] + records[j + 1 :]),))
        cuts += [
            (replace(batch, **calm),)
            for calm in _CALM
            if any(getattr(batch, name) for name in calm)
        ]
        for cut in cuts:
            if len(batches) - 1 + len(cut):
                yield replace(schedule, batches=batches[:i] + cut + batches[i + 1 :])
