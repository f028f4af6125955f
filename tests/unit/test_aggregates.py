from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.accumulators import IDENTITY, UFUNC, Accumulator, Events, Reduce, Source
from data_contracts.aggregates import Count, Sum
from data_contracts.derived import Rate
from data_contracts.oracle import oracle_features
from tests.engines import as_events
from tests.strategies import FULL, events

REDUCES: tuple[Reduce, ...] = ("add", "min", "max")
WHOLE = st.integers(-(2**53), 2**53)


@given(st.sampled_from(REDUCES), WHOLE, WHOLE, WHOLE)
def test_merging_is_associative_commutative_and_has_an_identity(
    name: Reduce, a: int, b: int, c: int
) -> None:
    merge = UFUNC[name]
    x, y, z = np.int64(a), np.int64(b), np.int64(c)
    assert merge(merge(x, y), z) == merge(x, merge(y, z))
    assert merge(x, y) == merge(y, x)
    assert x == merge(x, np.int64(IDENTITY[name]))


@given(events(), st.randoms(use_true_random=False))
def test_any_order_of_the_same_events_ends_in_the_same_state(log: list[Any], random: Any) -> None:
    lifted = FULL.lift(as_events(FULL, log)).tolist()
    shuffled = random.sample(lifted, len(lifted))
    for i, part in enumerate(FULL.accumulators):
        merge, start = UFUNC[part.reduce], np.int64(part.identity)
        forward = reduce(merge, [np.int64(row[i]) for row in lifted], start)
        assert forward == reduce(merge, [np.int64(row[i]) for row in shuffled], start)


@given(events())
def test_an_event_that_does_not_match_lifts_to_the_identity(log: list[Any]) -> None:
    part = Accumulator("max", Source("price", (("event_type", ("click",)),), 1000))
    lifted = part.lift(as_events(FULL, log)).tolist()
    for event, value in zip(log, lifted, strict=True):
        if event["event_type"] != "click" or event["price"] is None:
            assert part.identity == value


def test_a_key_without_events_is_served_the_declared_defaults() -> None:
    assert oracle_features(FULL, [], "ann", 0) == FULL.default_values().tolist()


def test_equal_accumulators_are_kept_once() -> None:
    assert len(set(FULL.accumulators)) == len(FULL.accumulators)


def clicks(prices: list[float]) -> Events:
    times = np.arange(len(prices))
    kinds = np.array(["click"] * len(prices), object)
    return Events(times, times, {"event_type": kinds}, {"price": np.array(prices)})


def test_a_value_beyond_the_exact_range_is_refused_by_the_name_of_its_field() -> None:
    total = Sum("price", scale=2**40)
    with pytest.raises(OverflowError, match="price"):
        total.parts[1].lift(clicks([2.0**13]))


def test_halves_of_a_unit_round_to_even_as_in_plain_python() -> None:
    lifted = Sum("price").parts[1].lift(clicks([0.5, 1.5, 2.5, 3.5])).tolist()
    assert [round(value) for value in (0.5, 1.5, 2.5, 3.5)] == lifted


def test_a_rate_is_its_prior_where_nothing_was_counted() -> None:
    rate = Rate("clicks", "views", prior=0.25, strength=4.0)
    assert [0.25, 0.5] == rate.finalize(np.array([0.0, 3.0]), np.array([0.0, 4.0])).tolist()


def test_the_digest_changes_with_every_declaration_that_changes_a_value() -> None:
    kinds = [Count(), Count(where=("click",)), Sum("price", scale=10), Sum("price", scale=100)]
    digests = {
        type(FULL)("user", "user_id", {"x": kind}, FULL.windows, defaults=defaults).digest
        for kind in kinds
        for defaults in ({}, {"x": 1.0})
    }
    assert 8 == len(digests)
    told = type(FULL)("user", "user_id", {"x": Count()}, FULL.windows, owner="a", description="b")
    assert told.digest in digests
