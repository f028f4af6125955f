import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.contract import Contract
from data_contracts.record import (
    MAX_BYTES,
    Refused,
    check_arrival,
    check_event,
    parse_record,
    payload_digest,
)
from data_contracts.use_case import load_use_case

GOOD: dict[str, Any] = {
    "event_id": "e1",
    "event_type": "impression",
    "event_time": "2019-11-24T00:00:17.004101Z",
    "user_id": "u1",
    "item_id": "i1",
    "request_id": "r1",
    "position": 3,
    "affinity": 0.25,
}


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_use_case("clicks").contract


def but(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def without(name: str) -> bytes:
    return json.dumps({k: v for k, v in GOOD.items() if k != name}).encode()


def text(old: str, new: str) -> bytes:
    whole = json.dumps(GOOD)
    assert old in whole
    return whole.replace(old, new).encode()


MALFORMED = {
    "empty": (b"", "record"),
    "blank": (b" \t ", "record"),
    "binary": (b"\x89PNG\r\n\x1a\n\xff\xfe", "record: not UTF-8 at byte 0"),
    "UTF-16": (json.dumps(GOOD).encode("utf-16-le"), "record: holds a NUL"),
    "byte order mark": (b"\xef\xbb\xbf" + but(), "record"),
    "cut short": (but()[:-9], "record: not one JSON object"),
    "two objects": (but() + but(), "record: not one JSON object: Extra data"),
    "an array": (b"[" + but() + b"]", "record: a JSON list"),
    "a string": (b'"event"', "record: a JSON str"),
    "a number": (b"17", "record: a JSON int"),
    "null": (b"null", "record: a JSON NoneType"),
    "single quotes": (but().replace(b'"', b"'"), "record"),
    "a trailing comma": (but()[:-1] + b",}", "record"),
    "nested too deep": (b'{"user_id":' + b"[" * 30000 + b"]" * 30000 + b"}", "record"),
    "too long": (b" " * MAX_BYTES + but(), f"record: .* at most {MAX_BYTES}"),
    "a number of 5000 digits": (text("0.25", "9" * 5000), "record"),
    "NaN": (text("0.25", "NaN"), "record: NaN"),
    "Infinity": (text("0.25", "-Infinity"), "record: -Infinity"),
    "overflowing number": (text("0.25", "1e400"), "affinity: inf"),
    "key twice": (text('"item_id"', '"user_id": "u2", "item_id"'), "'user_id': stands 2 times"),
    "unknown field": (but(userid="u1"), "'userid': unknown field"),
    "wrong-case field": (text('"user_id"', '"User_Id"'), "'User_Id': unknown field"),
    "missing id": (without("event_id"), "event_id: required"),
    "missing type": (without("event_type"), "event_type: required"),
    "missing time": (without("event_time"), "event_time: required"),
    "null user": (but(user_id=None), "user_id: required"),
    "impression without a position": (without("position"), "position: required for impression"),
    "click without its impression": (but(event_type="click"), "impression_id: required for click"),
    "undeclared type": (but(event_type="purchase"), "event_type: 'purchase' is not one of"),
    "wrong-case type": (but(event_type="Click"), "event_type: 'Click' is not one of"),
    "type with a space": (but(event_type="click "), "event_type"),
    "time in epoch seconds": (but(event_time=1574553617), "event_time: 1574553617 is not"),
    "time in epoch milliseconds": (but(event_time="1574553617004"), "event_time: not an RFC"),
    "time without an offset": (but(event_time="2019-11-24T00:00:17"), "event_time: not an RFC"),
    "time in year 57971": (but(event_time="57971-01-01T00:00:00Z"), "event_time: not an RFC"),
    "the 30th of February": (but(event_time="2019-02-30T00:00:00Z"), "event_time"),
    "time before year 1": (but(event_time="0001-01-01T00:00:00+14:00"), "event_time: outside"),
    "empty user": (but(user_id=""), "user_id: '' is shorter than 1"),
    "endless user": (but(user_id="u" * 129), "user_id: 129 characters, at most 128"),
    "number as user": (but(user_id=17), "user_id: 17 is not a string"),
    "object as user": (but(user_id={"id": 1}), "user_id: {'id': 1} is not a string"),
    "lone surrogate": (text('"u1"', '"\\ud800"'), "user_id: holds a lone surrogate"),
    "escaped NUL": (text('"u1"', '"u\\u0000"'), "user_id: holds a NUL"),
    "fraction as position": (but(position=1.5), "position: 1.5 is not an integer"),
    "float as position": (but(position=1.0), "position: 1.0 is not an integer"),
    "boolean as position": (but(position=True), "position: True is not an integer"),
    "string as position": (but(position="3"), "position: '3' is not an integer"),
    "position below": (but(position=0), "position: 0 is below 1"),
    "position above": (but(position=101), "position: 101 is above 100"),
    "huge position": (but(position=2**63), "position: .* beyond 2"),
    "string as affinity": (but(affinity="0.25"), "affinity: '0.25' is not a number"),
    "boolean as affinity": (but(affinity=False), "affinity: False is not a number"),
    "negative affinity": (but(affinity=-0.5), "affinity: -0.5 is below 0"),
    "propensity above 1": (but(propensity=1.01), "propensity: 1.01 is above 1"),
    "list as policy": (but(policy=["bts"]), "policy: .* is not a string"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_record_is_refused_with_a_reason_that_names_the_field(
    contract: Contract, name: str
) -> None:
    raw, reason = MALFORMED[name]
    with pytest.raises(Refused, match=reason) as refused:
        parse_record(contract, raw)
    assert all(len(reason) < 200 for reason in refused.value.reasons)


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


@pytest.mark.parametrize(
    "raw", [b"  " + but() + b"\r\n", but(user_id="käthe 🎈"), but(policy=None)]
)
def test_space_around_other_letters_and_nulls_are_no_fault(contract: Contract, raw: bytes) -> None:
    assert "e1" == parse_record(contract, raw)["event_id"]


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
