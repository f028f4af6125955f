"""Definitions that cannot be right are refused when declared, naming group and field."""

from dataclasses import replace
from typing import Any

import pytest

from data_contracts.aggregates import (
    ApproxDistinct,
    Count,
    DecayedCount,
    Distinct,
    LastK,
    Mean,
    Quantile,
    StdDev,
    TopK,
)
from data_contracts.clock import DAY
from data_contracts.derived import Difference, Rate
from data_contracts.feature_rules import check_group
from data_contracts.features import FeatureGroup
from data_contracts.use_case import load_use_case
from data_contracts.windows import Lifetime, Session, Sliding, Tumbling, Window

HOUR = (Sliding("1h"),)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a cap missing": ({"x": Distinct("item_id")}, "aggregate x: declare a cap"),
    "a top beyond its cap": (
        {"x": TopK("item_id", k=5, cap=4)},
        "k 5 is not between 1 and the cap 4",
    ),
    "a list of none": ({"x": LastK("item_id", k=0)}, "k 0 is below 1"),
    "few registers": ({"x": ApproxDistinct("item_id", bits=3)}, "bits 3 are not between 7 and 12"),
    "a rank of none": ({"x": Quantile("position", rank=0.0)}, "rank 0.0 is not above 0"),
    "a mean of strings": ({"x": Mean("item_id", scale=10)}, "'item_id' is string, not a number"),
    "a scaled string": (
        {"x": LastK("item_id", scale=10)},
        "'item_id' is a string: it has no scale",
    ),
    "a square that overflows": ({"x": StdDev("affinity", scale=10**7)}, "2.53 when squared"),
    "a filter by an unknown field": (
        {"x": Count(where={"shade": ("red",)})},
        "where: field 'shade' is not in the contract",
    ),
    "a filter by an undeclared value": (
        {"x": Count(where={"policy": ("greedy",)})},
        "values of 'policy' .'greedy'. are not declared",
    ),
}


def declared(**changes: Any) -> FeatureGroup:
    given = {"name": "user", "entity": "user_id", "aggregates": {"n": Count()}, "windows": HOUR}
    return FeatureGroup(**{**given, **changes})


def refused(group: FeatureGroup, said: str) -> None:
    with pytest.raises(ValueError, match=f"group user: .*{said}"):
        check_group(group, load_use_case("clicks").contract)


@pytest.mark.parametrize(("aggregates", "said"), WRONG.values(), ids=list(WRONG))
def test_an_aggregate_that_cannot_be_right_is_refused(aggregates: Any, said: str) -> None:
    refused(declared(aggregates=aggregates), said)


@pytest.mark.parametrize("window", [Tumbling("1h"), Lifetime(), Session("30m")])
def test_an_aggregate_that_fades_needs_tiles_with_an_age(window: Any) -> None:
    group = declared(aggregates={"heat": DecayedCount("1h")}, windows=(window,))
    refused(group, "a decayed aggregate needs sliding windows")


def test_a_session_wider_than_what_it_looks_back_is_refused() -> None:
    refused(declared(windows=(Session("2h", within="1h"),)), "a gap of 2h within 1h: widen it")


@pytest.mark.parametrize(
    ("windows", "ttl", "said"),
    [
        ((Sliding("24h"),), "24h", "window 24h: it reaches back 88200 s, ttl 24h would change"),
        ((Tumbling("1d"),), "47h", "window last_1d: it reaches back 172800 s"),
        ((Session("5m", within="100m"),), "100m", "window session_5m: it reaches back 6300 s"),
        ((Sliding("1h"), Lifetime()), "9999d", "window lifetime: it never forgets"),
        (HOUR, "soon", "ttl: not a duration"),
    ],
)
def test_a_ttl_that_would_change_a_value_is_refused(windows: Any, ttl: str, said: str) -> None:
    refused(declared(windows=windows, ttl=ttl), said)


def test_a_ttl_is_no_part_of_the_definition() -> None:
    lasting = declared(windows=(Sliding("24h"), Tumbling("1d"), Session("5m")), ttl="2d")
    check_group(lasting, load_use_case("clicks").contract)
    assert declared(windows=lasting.windows).digest == lasting.digest


def test_two_windows_of_one_name_are_refused() -> None:
    refused(declared(windows=(Lifetime(), Lifetime("2019-11-24"))), "two share a name")


def test_a_lifetime_since_no_day_is_refused() -> None:
    refused(declared(windows=(Lifetime("yesterday"),)), "no day like 2019-11-24")


def test_a_state_that_may_grow_beyond_its_limit_is_refused_and_raised_by_name() -> None:
    wide = {"aggregates": {"x": Distinct("item_id", cap=100)}, "windows": (Sliding("24h"),)}
    refused(declared(**wide), "may take [0-9]+ bytes, allowed are 16384")
    allowed = declared(**wide, max_state_bytes=100_000)
    check_group(allowed, load_use_case("clicks").contract)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (Difference("n", "m"), "derived d: 'm' is no aggregate of the group"),
        (Difference("n", "items"), "derived d: 'items' has several outputs"),
        (Rate("n", "position", 0.1, 1.0), "derived d: 'position' is no count"),
    ],
)
def test_a_derived_feature_of_what_is_not_there_is_refused(made: Any, said: str) -> None:
    aggregates = {"n": Count(), "items": LastK("item_id", k=2), "position": Mean("position")}
    refused(declared(aggregates=aggregates, derived={"d": made}), said)


@pytest.mark.parametrize(
    ("window", "refused"),
    [
        (Sliding("7d"), False),
        (Sliding("8d"), True),
        (Tumbling("7d"), False),
        (Tumbling("8d"), True),
        (Session("1h", within="7d"), False),
        (Session("1h", within="8d"), True),
        (Lifetime(), False),
    ],
)
def test_a_window_above_the_retention_is_refused(window: Window, refused: bool) -> None:
    kept = replace(load_use_case("clicks").contract, retention=7 * DAY)
    group = declared(windows=(window,))
    if not refused:
        check_group(group, kept)
        return
    said = f"group user: window {window.label}: holds 8d, above the retention of clicks .7 days."
    with pytest.raises(ValueError, match=said):
        check_group(group, kept)
