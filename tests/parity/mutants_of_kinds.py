"""Faults that only the use case `kinds` can show: each by the feature of it that it breaks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_contracts import aggregates, entries, sketches, tiles
from data_contracts.accumulators import Source
from data_contracts.aggregate import Ranked
from data_contracts.derived import Difference, Rate
from data_contracts.windows import Session
from spark_jobs import attributes, columns
from tests.parity.mutants import Patch, wrapped


@dataclass(frozen=True)
class OfKinds:
    """A fault of one kind of aggregate, window, key or attribute."""

    group: str
    """Of the use case, the group that shows it."""
    breaks: str
    """What the names of the features say that it changes."""
    plant: Patch


OF_KINDS: dict[str, OfKinds] = {}
OF_MANY: dict[str, OfKinds] = {}
"""Those that a key of a few dozen events, as schedules draw, does not show."""


def breaks(
    group: str, feature: str, among: dict[str, OfKinds] = OF_KINDS
) -> Callable[[Patch], Patch]:
    """Note a fault under its name, with what it breaks."""

    def noted(plant: Patch) -> Patch:
        among[plant.__name__] = OfKinds(group, feature, plant)
        return plant

    return noted


def compacted(patch: pytest.MonkeyPatch, kind: type, change: Callable[[Any], Any]) -> None:
    """States keep entries of this kind as those of the changed one."""
    wrapped(
        patch, tiles, "compact",
        lambda f: lambda part, rows, lead: f(
            change(part) if isinstance(part, kind) else part, rows, lead
        ),
    )  # fmt: skip


@breaks("sketch", "sketch_items")
def half_of_the_registers(patch: pytest.MonkeyPatch) -> None:
    """A register is chosen by one bit less."""

    def fewer(original: Any) -> Any:
        def rows(part: Any, events: Any, values: Any, at: Any) -> Any:
            return original(part, events, values, at) // np.array([2, 1])

        return rows

    wrapped(patch, entries.Registers, "rows", fewer)


@breaks("sketch", "sketch_items", OF_MANY)
def rank_of_a_register_too_high(patch: pytest.MonkeyPatch) -> None:
    """Few registers are estimated by how many are used, whatever their ranks are."""

    def higher(original: Any) -> Any:
        return lambda *of: original(*of) + np.array([0, 1])

    wrapped(patch, entries.Registers, "rows", higher)


@breaks("sketch", "sketch_items", OF_MANY)
def ranks_of_a_register_added(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(entries.Registers, "reduce", "add")


@breaks("sketch", "sketch_frequent")
def only_tied_events_have_a_tie(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(entries.Sampled, "by_tie", False)


@breaks("sketch", "sketch_frequent", OF_MANY)
def the_largest_ties_sampled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(entries.Sampled, "newest", True)


@breaks("sketch", "sketch_median")
def quantile_of_the_next_rank(patch: pytest.MonkeyPatch) -> None:
    """Where the rank falls on a value exactly, the value above it is taken."""
    hair = sketches.Fraction(1, 10**9)
    wrapped(patch, sketches, "Fraction", lambda f: lambda text: f(text) + hair)


@breaks("sketch", "sketch_median")
def bucket_by_a_whole_unit(patch: pytest.MonkeyPatch) -> None:
    """The middle of a bucket is rounded down to a unit."""
    whole = lambda f: staticmethod(lambda bucket: np.floor(f(bucket)))  # noqa: E731
    wrapped(patch, entries.Buckets, "middle", whole)


@breaks("user", "user_top_categories")
def tie_to_the_larger_value(patch: pytest.MonkeyPatch) -> None:
    def turned(original: Any) -> Any:
        def ranked(top: Any, counts: Any, n: int, default: float) -> Any:
            values, sizes = original(top, counts * np.array([1, -1, 1]), n, -default)
            return -values, sizes

        return ranked

    wrapped(patch, Ranked, "ranked", turned)


@breaks("user", "user_items")
def one_more_than_the_cap(patch: pytest.MonkeyPatch) -> None:
    compacted(patch, entries.Counts, lambda part: replace(part, keep=part.keep + 1))


@breaks("user", "user_top_categories")
def the_largest_kept_at_the_cap(patch: pytest.MonkeyPatch) -> None:
    def turned(original: Any) -> Any:
        def compact(part: Any, rows: Any, lead: int) -> Any:
            values = isinstance(part, entries.Counts) & (np.arange(rows.shape[1]) == lead)
            sign = np.where(values, -1, 1)
            return original(part, rows * sign, lead) * sign

        return compact

    wrapped(patch, tiles, "compact", turned)


@breaks("user", "user_last_items")
def oldest_of_the_last_first(patch: pytest.MonkeyPatch) -> None:
    wrapped(
        patch, aggregates.LastK, "finalize",
        lambda f: lambda last, state, *rest: f(last, [state[0][::-1]], *rest),
    )  # fmt: skip


@breaks("user", "user_first_item")
def first_is_the_last(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(entries.Ordered, "newest", True)


@breaks("user", "user_cheapest")
def least_without_its_default(patch: pytest.MonkeyPatch) -> None:
    wrapped(
        patch, aggregates.Min, "finalize", lambda f: lambda a, state, q, _: f(a, state, q, 0.0)
    )  # fmt: skip


@breaks("user", "user_slot")
def nulls_that_count_are_skipped(patch: pytest.MonkeyPatch) -> None:
    wrapped(
        patch, Source, "matches",
        lambda f: lambda source, events: f(replace(source, nulls="skip"), events),
    )  # fmt: skip


@breaks("user", "user_mobile")
def only_the_type_of_a_filter(patch: pytest.MonkeyPatch) -> None:
    def typed(original: Any) -> Any:
        def matches(source: Source, events: Any) -> Any:
            where = tuple(pair for pair in source.where if pair[0] == "event_type")
            return original(replace(source, where=where), events)

        return matches

    wrapped(patch, Source, "matches", typed)


@breaks("user", "user_range")
def difference_turned_round(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Difference, "finalize", lambda made, left, right: right - left)


@breaks("user", "user_ctr")
def rate_without_its_prior(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, Rate, "finalize", lambda f: lambda r, *of: f(replace(r, prior=0.0), *of))


@breaks("sketch", "_session_10m", OF_MANY)
def session_whose_tail_is_cut_a_hop_early(patch: pytest.MonkeyPatch) -> None:
    wrapped(patch, Session, "bounds", lambda f: lambda w, q: (f(w, q)[0] + w.hop, q))


@breaks("fading", "fading_glow")
def faded_sum_in_cents(patch: pytest.MonkeyPatch) -> None:
    wrapped(
        patch, aggregates.DecayedSum, "finalize",
        lambda f: lambda faded, *rest: f(replace(faded, scale=1), *rest),
    )  # fmt: skip


@breaks("taste", "taste_")
def dimension_before_the_event_s_own_word(patch: pytest.MonkeyPatch) -> None:
    """An event's own attribute gives way to that of the dimension."""

    def turned(original: Any) -> Any:
        def call(name: str, columns: Any, *rest: Any) -> Any:
            return original(name, columns[::-1] if name == "coalesce" else columns, *rest)

        return call

    wrapped(patch, attributes.pc, "call_function", turned)


@breaks("taste", "taste_")
def pair_of_which_a_part_is_unknown(patch: pytest.MonkeyPatch) -> None:
    """An event that lacks one part of a pair belongs to the pair with another's."""

    def guessed(original: Any) -> Any:
        def key_array(fields: Any, events: pa.Table) -> Any:
            for name in fields:
                column = events[name]
                known = column.drop_null()
                if len(known):
                    at = events.schema.get_field_index(name)
                    events = events.set_column(at, name, column.fill_null(known[0]))
            return original(fields, events)

        return key_array

    wrapped(patch, columns, "key_array", guessed)
