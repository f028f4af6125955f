"""The embedded log under groups of a test's own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from data_contracts.features import FeatureGroup
from data_contracts.use_case import UseCase, load_use_case
from spark_jobs.imports import canonical_events
from spark_jobs.proof import read_log
from spark_jobs.schedules import Log


def clicks_of(*groups: FeatureGroup) -> UseCase:
    """The shipped use case with these groups in place of its own."""
    clicks = load_use_case("clicks")
    return replace(clicks, declared=replace(clicks.declared, groups=groups))


def embedded_events(use_case: UseCase) -> list[Mapping[str, Any]]:
    """Every event of the log."""
    assert use_case.log is not None
    rows = canonical_events(use_case, use_case.log)
    return [event for row in rows for _, event in row]


def first_day(use_case: UseCase) -> Log:
    """What happened before 25 November."""
    events = embedded_events(use_case)
    return read_log(use_case, [e for e in events if e["event_time"] < "2019-11-25"])
