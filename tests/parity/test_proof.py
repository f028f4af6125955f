"""The proof on real events: no mismatch as the engines are, one for every fault planted in them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from data_contracts import (
    accumulators,
    aggregates,
    entries,
    point_in_time,
    sessions,
    states,
    tiles,
    windows,
)
from data_contracts.aggregates import (
    Count,
    DecayedCount,
    Distinct,
    Last,
    LastK,
    Mean,
    Min,
    SinceLast,
    StdDev,
    Sum,
    TopK,
)
from data_contracts.clock import MINUTE
from data_contracts.features import FeatureGroup
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.windows import RAW, Lifetime, Session, Sliding, Tumbling
from spark_jobs import admission, proof, rehearsal, writer
from spark_jobs.imports import canonical_events
from spark_jobs.proof import Proof, RealParts, prove, read_log
from spark_jobs.schedules import Log

GROUPS = (
    FeatureGroup(
        name="user",
        entity="user_id",
        aggregates={
            "shown": Count(where=("impression",)),
            "clicked": Count(where=("click",)),
            "position": Mean("position"),
            "highest": Min("position"),
            "total": Sum("position", where=("impression",)),
            "spread": StdDev("position"),
            "last": Last("position"),
            "items": LastK("item_id", k=3),
            "distinct": Distinct("item_id", cap=20),
            "top": TopK("item_id", k=2, cap=20),
            "since": SinceLast(where=("impression",)),
        },
        windows=(Sliding("10m"), Sliding("1h"), Tumbling("1h"), Session("2m"), Lifetime()),
        defaults={"position": 2.5, "since": 1e6},
    ),
    FeatureGroup(
        name="item",
        entity="item_id",
        aggregates={"heat": DecayedCount("30m"), "shown": Count(where=("impression",))},
        windows=(Sliding("1h"), Sliding("24h")),
    ),
)


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    clicks = load_use_case("clicks")
    return replace(clicks, declared=replace(clicks.declared, groups=GROUPS))


@pytest.fixture(scope="module")
def log(use_case: UseCase) -> Log:
    """The first day of the embedded log."""
    assert use_case.log is not None
    rows = canonical_events(use_case, use_case.log)
    events = [event for row in rows for _, event in row]
    return read_log(use_case, [e for e in events if e["event_time"] < "2019-11-25"])


def test_every_engine_gives_the_oracles_values_on_real_events(use_case: UseCase, log: Log) -> None:
    found = prove(use_case, log, 16, seed=1)
    said = found.certificate()
    assert found.holds
    assert (16, 0, 0) == (said["schedules"], said["mismatches"], said["spark_schedules"])
    assert said["compared"] == sum(f["compared"] for f in said["features"].values()) > 50_000
    assert said["non_default_share"] >= 0.3
    assert said["boundary_share"] >= 0.5
    assert set(use_case.feature_names) == set(said["features"])
    assert said == json.loads(json.dumps(said))


def test_the_same_seed_proves_the_same(use_case: UseCase, log: Log) -> None:
    first, again = (prove(use_case, log, 2, seed=5).certificate() for _ in range(2))
    assert first == again
    assert first["features"] != prove(use_case, log, 2, seed=6).certificate()["features"]


def test_a_log_without_an_event_that_counts_proves_nothing(use_case: UseCase) -> None:
    with pytest.raises(ValueError, match="no event that any declared aggregate counts"):
        prove(use_case, read_log(use_case, []), 1, seed=0)


def test_a_schedule_through_spark_delta_and_feast_agrees(
    spark: SparkSession, use_case: UseCase, log: Log, tmp_path: Path
) -> None:
    found = prove(use_case, log, 1, seed=6, real=RealParts(spark, tmp_path, 1, killed=0))
    assert found.holds
    assert (1, 0) == (found.spark_schedules, found.kill_signals)
    assert found.outcome.compared.total() > 1000


@pytest.mark.full
def test_schedules_through_the_real_parts_agree_also_when_writers_are_killed_by_signal(
    spark: SparkSession, use_case: UseCase, log: Log, tmp_path: Path
) -> None:
    found = prove(use_case, log, 6, seed=6, real=RealParts(spark, tmp_path, 6, killed=3))
    assert found.holds
    assert (6, 3) == (found.spark_schedules, found.kill_signals)


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
def pending_never_folded(patch: pytest.MonkeyPatch) -> None:
    """Raw events are kept, but expire as if they had been folded."""
    wrapped(patch, states, "fold", lambda f: lambda g, rows, at: f(g, rows, at - 10 * MINUTE))
    wrapped(
        patch,
        tiles,
        "_of",
        lambda f: lambda w, t: f(w, t) & ((t[:, 1] != RAW) | (t[:, 2] % 2 == 0)),
    )


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
    patch.setattr(tiles, "_joined", lambda group, window, rows: rows)
    alone = lambda window, gap, keys, starts, ends, count, q: sessions.session_starts(  # noqa: E731
        window, gap // 100, keys, starts, ends, count, q
    )
    patch.setattr(tiles, "session_starts", alone)


@mutant
def session_closed_a_moment_early(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, tiles, "session_starts", lambda f: lambda w, gap, *rest: f(w, gap - 1, *rest))


@mutant
def least_of_two_is_the_greatest(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(accumulators.UFUNC, "min", np.maximum)


@mutant
def duplicates_admitted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(admission.SeenEvents, "add", lambda seen, events: None)


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
        def decode(group: Any, packed: Any) -> Any:
            state = original(group, packed)
            rows = states.Rows(state.rows.tiles[:-1], state.rows.entries)
            return replace(state, rows=rows)

        return decode

    wrapped(patch, rehearsal, "decode", lose)


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


@pytest.fixture
def unshrunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The first mismatch as it was found."""
    with monkeypatch.context() as patch:
        patch.setattr(proof, "shrunk", lambda use_case, schedule, mismatch: mismatch)
        yield


@pytest.mark.parametrize("plant", MUTANTS.values(), ids=list(MUTANTS))
def test_a_fault_planted_in_an_engine_is_found(
    plant: Patch, use_case: UseCase, log: Log, monkeypatch: pytest.MonkeyPatch, unshrunk: None
) -> None:
    plant(monkeypatch)
    assert not prove(use_case, log, 40, seed=3).holds


@pytest.mark.parametrize("name", ["inclusive_head", "double_counted_replay"])
def test_what_is_found_is_shown_with_five_events_at_most(
    name: str, use_case: UseCase, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS[name](monkeypatch)
    found: Proof = prove(use_case, log, 40, seed=3)
    (shown,) = found.outcome.mismatches
    assert shown.oracle != shown.value
    assert 1 <= len(shown.events) <= 5
    assert shown.told() == found.certificate()["counterexample"]
