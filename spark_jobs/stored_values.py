"""What the online store and the packed tiles of Delta hold of one key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from data_contracts.clock import day_of, format_time
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.online import view_name
from data_contracts.states import State, decode, read
from data_contracts.use_case import UseCase
from data_contracts.views import ViewRegistry, digests_of, missing, reading
from spark_jobs.explain import tiles_of
from spark_jobs.folding import horizon
from spark_jobs.materialize import merged_states, packed_and_later
from spark_jobs.tables import newest_seq

Packed = Callable[[FeatureGroup, str], bytes]
"""The packed state of a key in the view of a definition; empty where there is none."""


@dataclass(frozen=True)
class StoredValues:
    """The features of a key as two stores give them."""

    asked: str
    """The time at which both are read: *q*, or the state's as-of where that is later."""
    online: dict[str, float]
    """By the states of the online store, as the server reads them."""
    tiles: dict[str, float]
    """By the packed tiles and the events above them; empty where upkeep folded what *q* needs."""
    states: dict[str, dict[str, Any] | None]
    """View -> seq, as-of and tiles of the state in the online store; None where it has none."""
    days: dict[str, list[dict[str, Any]]]
    """View -> day (of a base: the first it does not hold) and seq of each packed row."""


def stored_values(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    group: FeatureGroup,
    key: str,
    q: int,
    packed: Packed,
) -> StoredValues | None:
    """What is stored of `key` (its text) for a declared group at `q` (µs); None where no view has
    all of the group ready."""
    views = ViewRegistry(lake).views()
    if missing(group, [view.group for view in views.values() if view.status == "ready"]):
        return None
    chosen = reading(digests_of([group]), views.values())
    names = [view_name(each) for each in chosen.groups]
    states = [
        decode(each, found) if (found := packed(each, key)) else None for each in chosen.groups
    ]
    asked = max([q, *(state.as_of for state in states if state is not None)])
    seq, today = newest_seq(spark, lake.events), day_of(asked)
    rebuilt: list[State | None] = []
    days: dict[str, list[dict[str, Any]]] = {}
    for name, each in zip(names, chosen.groups, strict=True):
        first = day_of(min(window.bounds(asked)[0] for window in each.windows))
        rows, later = packed_and_later(spark, use_case, lake, each, seq, first, today, key)
        found = merged_states(each, rows, later.toArrow(), seq, asked)
        rebuilt.append(found.get(key))
        days[name] = rows.select(["day", "seq"]).to_pylist()
    whole = all(
        views[name].tiles_from <= horizon(each, asked)
        for name, each in zip(names, chosen.groups, strict=True)
    )

    def values(of: Sequence[State | None]) -> dict[str, float]:
        parts = [read(each, [state], asked) for each, state in zip(chosen.groups, of, strict=True)]
        return dict(zip(group.feature_names, chosen.vector(parts)[0].tolist(), strict=True))

    return StoredValues(
        asked=format_time(asked),
        online=values(states),
        tiles=values(rebuilt) if whole else {},
        states={
            name: state
            and {
                "seq": state.seq,
                "as_of": format_time(state.as_of),
                "tiles": tiles_of(each, state.rows),
            }
            for name, each, state in zip(names, chosen.groups, states, strict=True)
        },
        days=days,
    )
