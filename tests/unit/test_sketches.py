"""What the estimates promise: their error, and that any order and grouping gives the same bits."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.accumulators import Events, code
from data_contracts.aggregates import ApproxDistinct, FrequentItems, Quantile, StdDev, TopK
from data_contracts.features import FeatureGroup
from data_contracts.oracle_sketches import bucket_middle
from data_contracts.wide import variance
from data_contracts.windows import Lifetime
from tests.engines import point_in_time_features, stream, tile_features

VALUES = st.integers(-(2**53) + 1, 2**53 - 1)


def group(**aggregates: Any) -> FeatureGroup:
    return FeatureGroup("user", "user_id", aggregates, (Lifetime(),), max_state_bytes=2**20)


def log(field: str, values: list[Any]) -> list[dict[str, Any]]:
    return [
        {"event_id": f"e{i}", "event_type": "view", "event_time": i, "user_id": "ann", field: value}
        for i, value in enumerate(values)
    ]


def test_hyperloglog_stays_within_four_standard_errors_from_ten_to_ten_thousand() -> None:
    about = group(shops=ApproxDistinct("shop", bits=8))
    for distinct in (10, 100, 1_000, 10_000):
        events = log("shop", [f"shop {i % distinct}" for i in range(2 * distinct)])
        ((estimate,),) = point_in_time_features(about, events, [("ann", 10**6)])
        assert abs(estimate - distinct) <= max(4 * 1.04 / 16 * distinct, 1)


def test_frequent_items_are_counted_within_four_standard_errors_among_thousands() -> None:
    about = group(shops=FrequentItems("shop", k=3, sample=256))
    shares = {"one": 0.4, "two": 0.2, "three": 0.1}
    shops = [name for name, share in shares.items() for _ in range(round(share * 10_000))]
    shops += [f"rare {i}" for i in range(10_000 - len(shops))]
    (found,) = point_in_time_features(about, log("shop", shops), [("ann", 10**6)])
    assert [float(code(name)) for name in shares] == found[:3]
    errors = {p: abs(n / 10_000 - p) for p, n in zip(shares.values(), found[3:], strict=True)}
    assert {} == {p: e for p, e in errors.items() if e > 4 * math.sqrt(p * (1 - p) / 256)}


@given(st.lists(st.integers(-9, 9), max_size=16))
def test_frequent_items_are_exact_while_the_sample_holds_all(values: list[int]) -> None:
    about = group(sampled=FrequentItems("price", k=3, sample=16), all=TopK("price", k=3, cap=16))
    (found,) = point_in_time_features(about, log("price", values), [("ann", 10**6)])
    assert found[6:] == found[:6]


@given(VALUES)
def test_a_bucket_s_middle_is_within_its_promise_of_every_value(value: int) -> None:
    assert abs(bucket_middle(value) - value) <= abs(value) / 128


@given(
    st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=50),
    st.sampled_from((0.1, 0.3, 0.5, 1.0)),
)
def test_a_quantile_is_within_its_promise_of_the_true_one(values: list[int], rank: float) -> None:
    about = group(price=Quantile("price", rank=rank))
    ((found,),) = point_in_time_features(about, log("price", values), [("ann", 10**6)])
    true = sorted(values)[max(math.ceil(Fraction(str(rank)) * len(values)), 1) - 1]
    assert abs(found - true) <= abs(true) / 128


@pytest.mark.parametrize("rank", [0.07, 0.14, 0.28, 0.29, 0.55, 0.57, 0.58])
def test_a_quantile_of_a_hundred_values_is_the_one_of_its_number(rank: float) -> None:
    about = group(price=Quantile("price", rank=rank))
    log_of = log("price", list(range(1, 101)))
    ((found,),) = point_in_time_features(about, log_of, [("ann", 10**6)])
    assert round(rank * 100) == found


def test_no_value_has_a_bucket_beyond_those_that_a_state_is_sized_for() -> None:
    (part,) = Quantile("price").parts
    sizes = np.array([2**53 - 1, 2**53 - 1, 0])
    events = Events(time=np.zeros(3, np.int64), tie=np.zeros(3, np.int64), text={}, number={})
    buckets = part.rows(events, sizes * [1, -1, 0], np.arange(3))[:, 0]
    assert part.keep == buckets.max() - buckets.min() + 1


@given(st.lists(st.integers(-94_906_265, 94_906_265), min_size=1, max_size=30))
def test_a_variance_is_rounded_and_never_cancelled(values: list[int]) -> None:
    total, squares = sum(values), sum(v * v for v in values)
    sums = (np.array([x], np.int64) for x in (len(values), total, squares))
    exact = Fraction(squares, len(values)) - Fraction(total, len(values)) ** 2
    assert math.isclose(float(exact), variance(*sums)[0], rel_tol=1e-15)


def test_the_spread_of_large_close_values_is_exact() -> None:
    spread = group(price=StdDev("price"))
    events = log("price", [90_000_000, 90_000_001] * 50)
    assert [[0.5]] == point_in_time_features(spread, events, [("ann", 10**6)])


def test_sketches_are_the_same_bits_however_the_stream_is_cut() -> None:
    both = group(
        shops=ApproxDistinct("price", bits=7),
        price=Quantile("price", rank=0.9),
        often=FrequentItems("price", k=3, sample=16),
    )
    events = log("price", [i * i % 7919 for i in range(400)])
    whole = tile_features(both, stream(both, [events], [10**6]), ["ann"], 10**6)
    cut = [events[i::7] for i in range(7)]
    assert whole == tile_features(both, stream(both, cut, [10**6] * 7), ["ann"], 10**6)
    assert whole == point_in_time_features(both, events, [("ann", 10**6)])
