"""Malformed records of the clicks contract, each with the reason that it must be given."""

import json
from typing import Any

from data_contracts.record import MAX_BYTES

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


def but(**changes: Any) -> bytes:
    """The good record with some fields changed or added."""
    return json.dumps(GOOD | changes).encode()


def without(name: str) -> bytes:
    """The good record without a field."""
    return json.dumps({k: v for k, v in GOOD.items() if k != name}).encode()


def text(old: str, new: str) -> bytes:
    """The good record's text with a part replaced."""
    whole = json.dumps(GOOD)
    assert old in whole
    return whole.replace(old, new).encode()


NOT_ONE = "record: not one JSON object"
NO_TIME = "event_time: not an RFC 3339 time"

MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", NOT_ONE),
    "blank": (b" \t ", NOT_ONE),
    "binary": (b"\x89PNG\r\x1a\xff\xfe", "record: not UTF-8 at byte 0"),
    "broken UTF-8": (but(user_id="käthe").replace(b"\\u00e4", b"\xc3"), "record: not UTF-8 at"),
    "surrogate in UTF-8": (text('"u1"', '"u"').replace(b'"u"', b'"\xed\xa0\x80"'), "record: not U"),
    "UTF-16": (json.dumps(GOOD).encode("utf-16-le"), "record: holds a NUL"),
    "UTF-16 with its mark": (json.dumps(GOOD).encode("utf-16"), "record: not UTF-8 at byte 0"),
    "UTF-32": (json.dumps(GOOD).encode("utf-32-be"), "record: holds a NUL"),
    "byte order mark": (b"\xef\xbb\xbf" + but(), NOT_ONE),
    "NUL": (but() + b"\x00", "record: holds a NUL"),
    "raw control character": (text('"u1"', '"u\x07"'), f"{NOT_ONE}: Invalid control character"),
    "raw tab": (text('"u1"', '"u\t1"'), f"{NOT_ONE}: Invalid control character"),
    "unknown escape": (text('"u1"', '"u\\x31"'), NOT_ONE),
    "cut short": (but()[:-9], NOT_ONE),
    "two objects": (but() + but(), f"{NOT_ONE}: Extra data"),
    "two objects and a space": (but() + b" " + but(), f"{NOT_ONE}: Extra data"),
    "trailing bytes": (but() + b"}", f"{NOT_ONE}: Extra data"),
    "an array": (b"[" + but() + b"]", "record: a JSON list"),
    "a string": (b'"event"', "record: a JSON str"),
    "a number": (b"17", "record: a JSON int"),
    "a boolean": (b"true", "record: a JSON bool"),
    "null": (b"null", "record: a JSON NoneType"),
    "a CSV line": (b"e1,impression,2019-11-24T00:00:17Z,u1,i1", NOT_ONE),
    "single quotes": (but().replace(b'"', b"'"), NOT_ONE),
    "bare keys": (text('"user_id"', "user_id"), NOT_ONE),
    "a trailing comma": (but()[:-1] + b",}", NOT_ONE),
    "a comment": (text('"user_id"', '/* who */ "user_id"'), NOT_ONE),
    "a line comment": (but() + b" // done", f"{NOT_ONE}: Extra data"),
    "nested too deep": (b'{"user_id":' + b"[" * 30000 + b"]" * 30000 + b"}", NOT_ONE),
    "nested deep": (text('"u1"', "[" * 200 + "]" * 200), r"user_id: \[\["),
    "10 MB": (but(policy="x" * 10_000_000), f"record: .* at most {MAX_BYTES}"),
    "one byte too long": (but() + b" " * (MAX_BYTES + 1 - len(but())), "record: 65537 bytes"),
    "a number of 5000 digits": (text("0.25", "9" * 5000), NOT_ONE),
    "a number with a plus": (text("0.25", "+0.25"), NOT_ONE),
    "a hexadecimal number": (text(": 3", ": 0x3"), NOT_ONE),
    "a number with leading zeros": (text(": 3", ": 003"), NOT_ONE),
    "NaN": (text("0.25", "NaN"), "record: NaN"),
    "Infinity": (text("0.25", "Infinity"), "record: Infinity"),
    "minus Infinity": (text("0.25", "-Infinity"), "record: -Infinity"),
    "None": (text("0.25", "None"), NOT_ONE),
    "overflowing number": (text("0.25", "1e400"), "affinity: inf"),
    "overflowing integer": (text(": 3", ": 1e400"), "position: inf is not an integer"),
    "key twice": (text('"item_id"', '"user_id": "u2", "item_id"'), "'user_id': stands 2 times"),
    "same key and value twice": (text("}", ', "user_id": "u1"}'), "'user_id': stands 2 times"),
    "unknown field": (but(userid="u1"), "'userid': unknown field"),
    "empty field name": (text("}", ', "": 1}'), "'': unknown field"),
    "unknown schema version": (but(schema_version=99), "'schema_version': unknown field"),
    "wrong-case field": (text('"user_id"', '"User_Id"'), "'User_Id': unknown field"),
    "field with a space": (text('"user_id"', '"user_id "'), "'user_id ': unknown field"),
    "field in full width": (text('"user_id"', '"ｕser_id"'), "'ｕser_id': unknown field"),
    "missing id": (without("event_id"), "event_id: required"),
    "missing type": (without("event_type"), "event_type: required"),
    "missing time": (without("event_time"), "event_time: required"),
    "nothing but braces": (b"{}", "event_id: required; event_type: required; event_time: req"),
    "null user": (but(user_id=None), "user_id: required"),
    "null time": (but(event_time=None), "event_time: required"),
    "impression without a position": (without("position"), "position: required for impression"),
    "click without its impression": (but(event_type="click"), "impression_id: required for click"),
    "undeclared type": (but(event_type="purchase"), "event_type: 'purchase' is not one of"),
    "wrong-case type": (but(event_type="Click"), "event_type: 'Click' is not one of"),
    "type with a space": (but(event_type="click "), "event_type: 'click ' is not one of"),
    "time in epoch seconds": (but(event_time=1574553617), "event_time: 1574553617 is not"),
    "time in epoch milliseconds": (but(event_time=1574553617004), "event_time: 1574553617004 is"),
    "time in epoch microseconds": (but(event_time=1574553617004101), "event_time: 15745536170041"),
    "time in fractional seconds": (but(event_time=1574553617.5), "event_time: 1574553617.5 is"),
    "epoch seconds in a string": (but(event_time="1574553617"), NO_TIME),
    "epoch milliseconds in a string": (but(event_time="1574553617004"), NO_TIME),
    "epoch microseconds in a string": (but(event_time="1574553617004101"), NO_TIME),
    "time without an offset": (but(event_time="2019-11-24T00:00:17"), NO_TIME),
    "time with a zone's name": (but(event_time="2019-11-24T00:00:17 CET"), NO_TIME),
    "a day without a time": (but(event_time="2019-11-24"), NO_TIME),
    "an American day": (but(event_time="11/24/2019 00:00:17"), NO_TIME),
    "time in nanoseconds": (but(event_time="2019-11-24T00:00:17.004101000Z"), NO_TIME),
    "time in year 57971": (but(event_time="57971-01-01T00:00:00Z"), NO_TIME),
    "time in year 0": (but(event_time="0000-01-01T00:00:00Z"), "event_time: .*'0000-01-01"),
    "time before year 1": (but(event_time="0001-01-01T00:00:00+14:00"), "event_time: outside"),
    "leap second": (but(event_time="2016-12-31T23:59:60Z"), "event_time: .*'2016-12-31T23:59:60Z'"),
    "the 30th of February": (but(event_time="2019-02-30T00:00:00Z"), "event_time: .*'2019-02-30"),
    "hour 24": (but(event_time="2019-11-24T24:00:00Z"), "event_time: .*'2019-11-24T24"),
    "arrival that is no time": (but(arrived_at="now"), "arrived_at: not an RFC 3339 time"),
    "empty user": (but(user_id=""), "user_id: '' is shorter than 1"),
    "endless user": (but(user_id="u" * 129), "user_id: 129 characters, at most 128"),
    "number as user": (but(user_id=17), "user_id: 17 is not a string"),
    "boolean as user": (but(user_id=True), "user_id: True is not a string"),
    "object as user": (but(user_id={"id": 1}), "user_id: {'id': 1} is not a string"),
    "lone surrogate": (text('"u1"', '"\\ud800"'), "user_id: holds a lone surrogate"),
    "lone surrogate in a name": (text("}", ', "\\udfff": 1}'), r"'\\udfff': unknown field"),
    "lone surrogate in a number": (text("0.25", '"\\ud800"'), "affinity: .* is not a number"),
    "escaped NUL": (text('"u1"', '"u\\u0000"'), "user_id: holds a NUL"),
    "fraction as position": (but(position=1.5), "position: 1.5 is not an integer"),
    "float as position": (but(position=1.0), "position: 1.0 is not an integer"),
    "boolean as position": (but(position=True), "position: True is not an integer"),
    "string as position": (but(position="3"), "position: '3' is not an integer"),
    "position below": (but(position=0), "position: 0 is below 1"),
    "negative position": (but(position=-3), "position: -3 is below 1"),
    "position above": (but(position=101), "position: 101 is above 100"),
    "huge position": (but(position=2**63), "position: .* beyond 2"),
    "huge affinity": (but(affinity=10**300), "affinity: .* beyond 2"),
    "string as affinity": (but(affinity="0.25"), "affinity: '0.25' is not a number"),
    "comma in a number": (but(affinity="0,25"), "affinity: '0,25' is not a number"),
    "boolean as affinity": (but(affinity=False), "affinity: False is not a number"),
    "negative affinity": (but(affinity=-0.5), "affinity: -0.5 is below 0"),
    "propensity above 1": (but(propensity=1.01), "propensity: 1.01 is above 1"),
    "list as policy": (but(policy=["bts"]), r"policy: \['bts'\] is not a string"),
    "reason in a value": (but(event_type="a; b: c"), r"event_type: 'a\\x3b b: c' is not one of"),
}
"""What each kind of mistake is called -> the record, and a pattern of its reason."""

SEVERAL = ("nothing but braces",)
"""Those that hold more than one mistake."""

UNHARMED = {
    "CRLF at its end": but() + b"\r",
    "space around it": b"  " + but() + b" \t",
    "letters of any alphabet": but(user_id="käthe 🎈 \u202e"),
    "escaped control character": but(user_id="u\t\u0007"),
    "null in an optional field": but(policy=None),
    "an integer as number": but(affinity=1),
    "seconds without a fraction": but(event_time="2019-11-24T00:00:17+00:00"),
}
"""Odd records that say what they mean: each is an event."""
