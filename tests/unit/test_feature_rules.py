"""Definitions that cannot be right are refused when declared, naming group and field."""

import json
import math
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest

from data_contracts.aggregates import (
    ApproxDistinct,
    Count,
    DecayedCount,
    DecayedSum,
    Distinct,
    First,
    FrequentItems,
    Last,
    LastK,
    Max,
    Mean,
    Min,
    Quantile,
    SinceLast,
    StdDev,
    Sum,
    TopK,
)
from data_contracts.clock import DAY, MINUTE
from data_contracts.definitions import from_json, to_json
from data_contracts.derived import Difference, Rate
from data_contracts.feature_rules import check_group
from data_contracts.features import FeatureGroup
from data_contracts.oracle import oracle_features
from data_contracts.use_case import load_use_case
from data_contracts.windows import Lifetime, Session, Sliding, Tumbling, Window
from tests.engines import point_in_time_features, stream, tile_features

HOUR = (Sliding("1h"),)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a cap missing": ({"x": Distinct("item_id")}, "aggregate x: declare a cap"),
    "a top beyond its cap": (
        {"x": TopK("item_id", k=5, cap=4)},
        "k 5 is not between 1 and the cap 4",
    ),
    "a list of none": ({"x": LastK("item_id", k=0)}, "k 0 is below 1"),
    "a small sample": (
        {"x": FrequentItems("item_id", sample=8)},
        "sample 8 is not between 16 and 4096",
    ),
    "a top beyond its sample": (
        {"x": FrequentItems("item_id", k=17, sample=16)},
        "k 17 is not between 1 and the sample 16",
    ),
    "few registers": ({"x": ApproxDistinct("item_id", bits=3)}, "bits 3 are not between 7 and 12"),
    "a rank of none": ({"x": Quantile("position", rank=0.0)}, "rank 0.0 is not above 0"),
    "a rank of many decimals": (
        {"x": Quantile("position", rank=1 / 3)},
        "rank 0.3333333333333333: give six decimals at most",
    ),
    "a mean of strings": ({"x": Mean("item_id", scale=10)}, "'item_id' is string, not a number"),
    "a scaled string": (
        {"x": LastK("item_id", scale=10)},
        "'item_id' is a string: it has no scale",
    ),
    "values beyond what is exact": ({"x": Mean("affinity", scale=10**10)}, "reaches 2.53"),
    "squares that overflow": (
        {"x": StdDev("affinity", scale=90)},
        "'affinity': its range x scale 90, squared, summed over 1048576 events .max_events. reach",
    ),
    "a sum that overflows": ({"x": Sum("affinity", scale=10**7)}, "scale 10000000 summed over"),
    "a faded sum that overflows": ({"x": DecayedSum("affinity", scale=1000)}, "summed over"),
    "a filter that is a string": ({"x": Count(where="click")}, "event_type 'click': list at least"),
    "a filter that is a number": (
        {"x": Count(where={"policy": 5})},
        "aggregate x: where: policy 5",
    ),
    "a filter by no value": (
        {"x": Count(where={"event_type": ()})},
        "event_type ..: list at least",
    ),
    "nulls by a word of one's own": (
        {"x": Mean("position", nulls="ignore")},
        "aggregate x: 'position': nulls 'ignore': say one of .'skip', 'zero'.",
    ),
    "half a scale": ({"x": Mean("position", scale=1.5)}, "'position': scale 1.5: give a whole"),
    "a cap that is no whole number": (
        {"x": Distinct("item_id", cap=2.5)},
        "'item_id': cap 2.5: give a whole number",
    ),
    "a mean of times": ({"x": Mean("event_time")}, "'event_time': is a time, not a number"),
    "a sum of no field": ({"x": Sum(None)}, "field None: name a field of the contract"),
    "no aggregate": ({"x": "count"}, "aggregate x: 'count' is none of Count, "),
    "a name with a space": ({"n m": Count()}, "aggregate 'n m': a name is lower-case"),
    "no name": ({"": Count()}, "aggregate '': a name is lower-case"),
    "a number that JSON gives back as another": (
        {"x": DecayedCount("1h"), "y": Quantile("position", rank=np.float64(0.5))},
        "feature user_y_1h: its record is another",
    ),
    "a number that JSON does not take": (
        {"x": Quantile("position", rank=Fraction(1, 2))},
        "Fraction is not JSON serializable: use plain numbers",
    ),
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


def test_two_sessions_of_one_gap_that_are_cut_at_other_times_are_refused() -> None:
    windows = (Session("10m", within="100m"), Session("600s", within="10h"))
    said = "windows session_10m .within 100m. and session_600s .within 10h. have one gap"
    refused(declared(windows=windows), said)


def test_two_sessions_of_one_gap_that_are_cut_at_the_same_times_are_the_oracles() -> None:
    group = declared(windows=(Session("10m", within="100m"), Session("600s", within="2h")))
    check_group(group, load_use_case("clicks").contract)
    log = [
        {"event_id": f"e{i}", "event_type": "click", "event_time": i * 9 * MINUTE, "user_id": "ann"}
        for i in range(20)
    ]
    states, q = stream(group, [log[::2], log[1::2]], [log[-1]["event_time"]] * 2), 172 * MINUTE
    wanted = oracle_features(group, log, "ann", q)
    assert wanted[0] < wanted[1]
    assert [wanted] == tile_features(group, states, ["ann"], q)


def test_two_windows_of_one_name_are_refused() -> None:
    refused(declared(windows=(Lifetime(), Lifetime("2019-11-24"))), "two share a name")


def test_a_lifetime_since_no_day_is_refused() -> None:
    refused(declared(windows=(Lifetime("yesterday"),)), "no day like 2019-11-24")


def test_a_state_that_may_grow_beyond_its_limit_is_refused_and_raised_by_name() -> None:
    wide = {"aggregates": {"x": Distinct("item_id", cap=100)}, "windows": (Sliding("24h"),)}
    refused(declared(**wide), "may take [0-9]+ bytes, allowed are 16384: .* or max_state_bytes")
    allowed = declared(**wide, max_state_bytes=101_000)
    check_group(allowed, load_use_case("clicks").contract)


def test_a_sketch_has_a_limit_of_its_own_and_leaves_that_of_the_rest() -> None:
    half = Quantile("position")
    refused(declared(aggregates={"half": half}), "allowed are 16384: .* or max_sketch_bytes")
    raised = declared(aggregates={"n": Count(), "half": half}, max_sketch_bytes=2_000_000)
    check_group(raised, load_use_case("clicks").contract)
    wide = {"x": Distinct("item_id", cap=1_000), "half": half}
    refused(declared(aggregates=wide, max_sketch_bytes=2_000_000), "or max_state_bytes")


NUMBERS = (Sum, Min, Max, Mean, First, Last, Quantile, partial(Distinct, cap=2),
           partial(LastK, k=2), partial(TopK, k=1, cap=2), FrequentItems)  # fmt: skip


@pytest.mark.parametrize("aggregate", NUMBERS)
def test_a_number_without_a_scale_is_refused_whatever_is_made_of_it(aggregate: Any) -> None:
    refused(
        declared(aggregates={"x": aggregate("affinity")}, max_sketch_bytes=10**7),
        "aggregate x: .*'affinity' needs a scale",
    )


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "user's"}, 'group "user\'s": a name is lower-case letters'),
        ({"windows": ("1h",)}, "window '1h': '1h' is none of Sliding, Tumbling, "),
        ({"defaults": {"n": 1.0}}, "defaults: n: a Count of nothing is 0: leave it out"),
        ({"derived": {"d m": Difference("n", "n")}}, "derived 'd m': a name is lower-case"),
        ({"derived": {"d": Rate("n", "n", float("nan"), 1.0)}}, "derived d: strength must be"),
        ({"max_events": 0}, "max_events 0 is below 1"),
        ({"windows": Sliding("1h")}, "windows Sliding.*: give a tuple, e.g. .Sliding"),
        ({"windows": (Sliding(3600),)}, "expected string or bytes-like object, got 'int'"),
        ({"defaults": {"n": "x"}}, "must be real number, not str"),
        (
            {
                "aggregates": {"n": Count(), "n_last": SinceLast()},
                "windows": (Sliding("1d"), Tumbling("1d")),
            },
            "feature user_n_last_1d: is n_last over 1d, and n over last_1d: rename one",
        ),
        (
            {"aggregates": {"p": LastK("position", k=2), "p_1": Count()}},
            "feature user_p_1_1h: is p over 1h, and p_1 over 1h: rename one",
        ),
    ],
)
def test_a_form_that_no_engine_could_keep_is_refused(changes: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"group .*{said}"):
        check_group(declared(**changes), load_use_case("clicks").contract)


@pytest.mark.parametrize("default", [float("nan"), float("inf")])
def test_a_default_that_is_no_number_is_refused(default: float) -> None:
    changes = {"aggregates": {"x": Mean("position")}, "defaults": {"x": default}}
    refused(declared(**changes), f"defaults: x {default}: give a finite number")


def test_one_filter_has_one_digest_however_it_is_written_and_kept() -> None:
    either = [
        ("click", "impression"),
        ["impression", "click"],
        {"click", "impression"},
        {"event_type": ["click", "impression", "click"]},
    ]
    groups = [declared(aggregates={"n": Count(where=where)}) for where in either]
    for group in groups:
        check_group(group, load_use_case("clicks").contract)
    kept = [from_json(json.loads(json.dumps(to_json(group)))) for group in groups]
    assert 1 == len({group.digest for group in (*groups, *kept)})
    both = {"policy": ("a",), "event_type": ("click",)}
    one, other = (
        declared(aggregates={"n": Count(where=where)})
        for where in (both, dict(sorted(both.items())))
    )
    assert one.digest == other.digest != groups[0].digest


def test_shipped_definitions_keep_their_digests() -> None:
    found = {g.name: g.digest for name in ("clicks", "world") for g in load_use_case(name).groups}
    assert found == {
        "user": "ac7cbaa0ba59e1f9337945abbfae32b0",
        "item": "c2ca2827900b7547aaa0734405e1b9aa",
        "taste": "25671e2b3b9f1e36b21d61fd77ea89f2",
    }


@pytest.mark.parametrize("kind", [Sum, Mean, StdDev])
def test_up_to_the_declared_number_of_events_a_sum_of_the_largest_values_is_the_oracles(
    kind: Any,
) -> None:
    events, clicks = 200, load_use_case("clicks").contract
    largest = math.isqrt((2**63 - 1) // events) if kind is StdDev else (2**53 - 1)
    fields = {**clicks.fields, "position": replace(clicks.fields["position"], maximum=largest)}
    contract = replace(clicks, fields=fields)
    group = declared(aggregates={"x": kind("position")}, max_events=events)
    check_group(group, contract)
    log = [
        {"event_id": f"e{i}", "event_type": "click", "event_time": i, "user_id": "ann",
         "position": largest - i % 3}
        for i in range(events)
    ]  # fmt: skip
    wanted = [oracle_features(group, log, "ann", events)]
    assert wanted == point_in_time_features(group, log, [("ann", events)])
    assert wanted == tile_features(group, stream(group, [log], [events]), ["ann"], events)
    with pytest.raises(ValueError, match=r"summed over \d+ events .max_events. reaches 2.63"):
        check_group(replace(group, max_events=1025 if kind is not StdDev else 201), contract)
