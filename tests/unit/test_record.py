import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.clock import DAY
from data_contracts.contract import Contract
from data_contracts.record import (
    Expired,
    Refused,
    check_arrival,
    check_event,
    check_retention,
    parse_record,
    payload_digest,
)
from data_contracts.use_case import load_use_case
from tests.poison import GOOD, MALFORMED, SEVERAL, UNHARMED, but


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_use_case("clicks").contract


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_record_is_refused_with_a_reason_that_names_the_field(
    contract: Contract, name: str
) -> None:
    raw, reason = MALFORMED[name]
    with pytest.raises(Refused, match=f"^{reason}") as refused:
        parse_record(contract, raw)
    assert all(len(reason) < 200 for reason in refused.value.reasons)
    assert (len(refused.value.reasons) > 1) == (name in SEVERAL), "one mistake, one reason"


def test_every_broken_field_is_named_at_once(contract: Contract) -> None:
    with pytest.raises(Refused) as refused:
        parse_record(contract, but(user_id=1, position=0, event_time="now", colour="red"))
    named = {reason.split(":")[0] for reason in refused.value.reasons}
    assert {"'colour'", "event_time", "position", "user_id"} == named


def test_a_good_record_becomes_a_typed_event_with_absent_fields_as_none(
    contract: Contract,
) -> None:
    event = parse_record(contract, but(affinity=1))
    assert set(contract.fields) == set(event)
    assert 1_574_553_617_004_101 == event["event_time"]
    assert (3, 1.0, None) == (event["position"], event["affinity"], event["policy"])
    assert isinstance(event["affinity"], float)


@pytest.mark.parametrize("name", UNHARMED)
def test_an_odd_record_that_says_what_it_means_is_an_event(contract: Contract, name: str) -> None:
    assert "e1" == parse_record(contract, UNHARMED[name])["event_id"]


@given(raw=st.binary(max_size=200))
def test_random_bytes_are_refused_and_never_crash(contract: Contract, raw: bytes) -> None:
    with pytest.raises(Refused):
        parse_record(contract, raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(name=st.sampled_from(sorted(GOOD)), value=JSON)
def test_any_value_in_any_field_is_a_typed_event_or_refused(
    contract: Contract, name: str, value: Any
) -> None:
    changed = GOOD | {name: value}
    try:
        assert check_event(contract, changed) == parse_record(contract, but(**{name: value}))
    except Refused:
        with pytest.raises(Refused, match=name):
            check_event(contract, changed)


def test_a_nested_value_is_refused_by_name_at_every_depth_that_can_be_read_and_beyond(
    contract: Contract,
) -> None:
    """Whoever shows a value may stand deeper in its stack than who read it."""
    value: list[Any] = []
    reasons: list[str] = []
    for depth in range(1, 1100):
        with pytest.raises(Refused) as refused:
            parse_record(
                contract, but(user_id=0).replace(b": 0", b": " + b"[" * depth + b"]" * depth)
            )
        assert str(refused.value).startswith(("user_id: [", "record: not one JSON object: "))
        value = [value]
        with pytest.raises(Refused) as refused:
            check_event(contract, GOOD | {"user_id": value})
        reasons += refused.value.reasons
    assert 1099 == len(reasons)
    assert reasons[0] == "user_id: [[]] is not a string"
    assert reasons[-1] == "user_id: a list that is nested too deeply is not a string"


def test_a_record_of_thousands_of_repeated_keys_names_each_once(contract: Contract) -> None:
    pairs = ",".join(f'"a{i % 4000}":1' for i in range(6000))
    with pytest.raises(Refused) as refused:
        parse_record(contract, f"{{{pairs}}}".encode())
    assert 2000 == len(refused.value.reasons)


def test_an_event_may_lie_as_far_in_the_future_as_declared_and_no_further(
    contract: Contract,
) -> None:
    event = parse_record(contract, but())
    check_arrival(contract, event, event["event_time"] - contract.max_future_skew)
    with pytest.raises(Refused, match="event_time: 60 s after its arrival, at most 60 s"):
        check_arrival(contract, event, event["event_time"] - contract.max_future_skew - 1)


def test_an_event_may_be_as_late_as_the_retention_and_no_later(contract: Contract) -> None:
    kept = replace(contract, retention=30 * DAY)
    event = parse_record(kept, but())
    check_retention(kept, event)
    check_retention(kept, {**event, "arrived_at": event["event_time"] + 30 * DAY})
    late = {**event, "arrived_at": event["event_time"] + 31 * DAY}
    check_retention(contract, late)
    with pytest.raises(Expired) as expired:
        check_retention(kept, late)
    assert "event_time: above 30 days (the retention) before its arrival" == str(expired.value)


def test_the_digest_ignores_arrival_nulls_and_spelling_but_no_value(contract: Contract) -> None:
    digest = payload_digest(parse_record(contract, but()))
    same = [
        but(arrived_at="2019-11-24T00:00:18Z"),
        but(policy=None),
        but(event_time="2019-11-24T01:00:17.004101+01:00"),
        json.dumps(dict(reversed(GOOD.items())), indent=1).encode(),
    ]
    assert [digest] * 4 == [payload_digest(parse_record(contract, raw)) for raw in same]
    for name, value in {"position": 4, "affinity": 0.250001, "user_id": "u2"}.items():
        assert digest != payload_digest(parse_record(contract, but(**{name: value})))
