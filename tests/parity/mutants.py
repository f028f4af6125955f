"""Faults to plant in the engines, each by the name of what it breaks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from data_contracts import (
    accumulators,
    aggregates,
    entries,
    point_in_time,
    states,
    tiles,
    windows,
)
from data_contracts.accumulators import Decayed
from data_contracts.clock import DAY, MINUTE
from data_contracts.features import FeatureGroup
from data_contracts.windows import HOPS, Sliding, Tumbling
from spark_jobs import columns, rehearsal, seen_events, writer

Patch = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, Patch] = {}


def mutant(plant: Patch) -> Patch:
    MUTANTS[plant.__name__] = plant
    return plant


def wrapped(patch: pytest.MonkeyPatch, where: Any, name: str, make: Callable[..., Any]) -> None:
    """Put `make(original)` in place of an attribute."""
    patch.setattr(where, name, make(getattr(where, name)))


@mutant
def inclusive_head(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, Sliding, "bounds", lambda f: lambda w, q: (f(w, q)[0], q + 1))


@mutant
def tail_off_by_a_hop(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, Sliding, "bounds", lambda f: lambda w, q: (f(w, q)[0] + w.hop, q))


@mutant
def tail_not_cut_at_a_hop(patch: pytest.MonkeyPatch) -> None:
    exact = lambda w, q: (q - windows.duration(w.width), q)  # noqa: E731
    patch.setattr(Sliding, "bounds", exact)


@mutant
def all_that_a_state_holds(patch: pytest.MonkeyPatch) -> None:
    """A read takes all that a state still holds, although its time is over."""

    def endless(original: Any) -> Any:
        def lower_bounds(group: FeatureGroup, window: Any, rows: Any, q: Any) -> Any:
            if any(isinstance(part, Decayed) for part in group.parts):
                return original(group, window, rows, q)  # of no such age is there a weight
            return np.full_like(q, -(2**62))

        return lower_bounds

    wrapped(patch, tiles, "lower_bounds", endless)


@mutant
def tumbling_window_still_open(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, Tumbling, "bounds", lambda f: lambda w, q: (f(w, q)[1], q))


@mutant
def dropped_late_event(patch: pytest.MonkeyPatch) -> None:
    def drop(original: Any) -> Any:
        def keyed(group: FeatureGroup, events: Any) -> Any:
            keys, rows = original(group, events)
            newest = rows.tiles[:, tiles.START].max(initial=0)
            late = [table[:, tiles.START] >= newest - MINUTE for table in rows.tables]
            return keys, tiles.where(rows, late)

        return keyed

    wrapped(patch, writer, "keyed_rows", drop)


@mutant
def double_counted_replay(patch: pytest.MonkeyPatch) -> None:
    def forget(original: Any) -> Any:
        def advance(group: Any, found: Any, *rest: Any) -> Any:
            return original(group, {k: replace(s, seq=-1) for k, s in found.items()}, *rest)

        return advance

    wrapped(patch, writer, "advance", forget)


@mutant
def stale_backfill(patch: pytest.MonkeyPatch) -> None:
    """A backfill claims the events that arrived between its read and its commit."""

    def claim(original: Any) -> Any:
        def commit(lake: Any, backfill: Any) -> None:
            for days in backfill.rows.values():
                for rows in days.values():
                    for row in rows:
                        row["seq"] = lake.seq
            original(lake, backfill)

        return commit

    wrapped(patch, rehearsal.MemoryRehearsal, "commit", claim)


@mutant
def pending_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tiles, "_of", lambda window, table: table[:, tiles.LEVEL] == window.level)


@mutant
def pending_folded_early(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, states, "fold", lambda f: lambda g, rows, at: f(g, rows, at + MINUTE))


@mutant
def event_pending_from_its_tile_on(patch: pytest.MonkeyPatch) -> None:
    """A raw event stands where a tile of 10 s with it would begin."""

    def early(original: Any) -> Any:
        def raw_rows(group: FeatureGroup, keys: Any, events: Any) -> Any:
            rows = original(group, keys, events)
            for table in rows.tables:
                table[:, tiles.START] -= table[:, tiles.START] % HOPS[0]
            return rows

        return raw_rows

    wrapped(patch, columns, "raw_rows", early)


@mutant
def expired_too_early(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, states, "expire", lambda f: lambda g, rows, at: f(g, rows, at + 5 * MINUTE))


@mutant
def wrong_tie(patch: pytest.MonkeyPatch) -> None:
    def untied(part: Any, events: Any, values: Any, at: Any) -> Any:
        return np.column_stack([events.time[at], -values[at], values[at]])

    patch.setattr(entries.Ordered, "rows", untied)


@mutant
def lost_session_bridge(patch: pytest.MonkeyPatch) -> None:
    """Neither a merge joins segments nor the reader, who alone would make up for it."""
    patch.setattr(tiles, "_joined", lambda group, window, rows: rows)
    wrapped(patch, tiles, "session_starts", lambda f: lambda w, gap, *rest: f(w, gap // 100, *rest))


@mutant
def session_closed_a_moment_early(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, tiles, "session_starts", lambda f: lambda w, gap, *rest: f(w, gap - 1, *rest))


@mutant
def least_of_two_is_the_greatest(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(accumulators.UFUNC, "min", np.maximum)


@mutant
def duplicates_admitted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(seen_events.SeenEvents, "add", lambda seen, events: None)


@mutant
def nulls_counted_as_zero(patch: pytest.MonkeyPatch) -> None:
    wrapped(
        patch, accumulators.Source, "matches",
        lambda f: lambda source, events: f(replace(source, nulls="zero"), events),
    )  # fmt: skip


@mutant
def default_forgotten(patch: pytest.MonkeyPatch) -> None:
    wrapped(
        patch, aggregates.Mean, "finalize", lambda f: lambda a, state, q, _: f(a, state, q, 0.0)
    )


@mutant
def training_row_sees_its_own_event(patch: pytest.MonkeyPatch) -> None:
    wrapped(
        patch, point_in_time, "window_states",
        lambda f: lambda group, keys, events, asked, q: f(group, keys, events, asked, q + 1),
    )  # fmt: skip


@mutant
def a_tile_lost_in_the_codec(patch: pytest.MonkeyPatch) -> None:
    def lose(original: Any) -> Any:
        def unpack(*packed: Any) -> Any:
            found = original(*packed)
            return replace(found, rows=tiles.Rows(found.rows.tiles[:-1], found.rows.entries))

        return unpack

    wrapped(patch, states, "unpack", lose)


@mutant
def decay_a_hop_too_old(patch: pytest.MonkeyPatch) -> None:
    wrapped(
        patch, accumulators.Decayed, "weights",
        lambda f: lambda part, hop, count: f(part, hop, count + 1)[1:],
    )  # fmt: skip


@mutant
def newest_kept_by_arrival(patch: pytest.MonkeyPatch) -> None:
    """Of a full list the oldest is kept instead of the newest."""
    patch.setattr(entries.Newest, "newest", False)


@mutant
def cap_of_one(patch: pytest.MonkeyPatch) -> None:
    wrapped(
        patch, tiles, "compact",
        lambda f: lambda part, rows, lead: f(
            replace(part, keep=1) if isinstance(part, entries.Counts) else part, rows, lead
        ),
    )  # fmt: skip


@mutant
def state_removed_before_its_time(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, rehearsal, "idle_keys", lambda f: lambda g, found, at: f(g, found, at + DAY))
