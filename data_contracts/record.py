"""One raw record against the contract: strict JSON in, a typed event or its reasons out."""

import hashlib
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from data_contracts.clock import DAY, parse_time
from data_contracts.contract import Contract, Field

Event = dict[str, Any]
"""A contract-conforming event; timestamps are int microseconds UTC, absent fields None."""

MAX_BYTES = 65_536
"""A record above this is refused unread."""

EXACT_INTEGER = 2**53


class Refused(ValueError):
    """A record that breaks the contract; `reasons` name field, value and rule.

    The message joins them by `; `, so that a semicolon within one is written `\\x3b`.
    """

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = [reason.replace(";", r"\x3b") for reason in reasons]
        super().__init__("; ".join(self.reasons))


class Expired(Refused):
    """A record that keeps the contract and came later than its retention allows."""


def parse_record(contract: Contract, raw: bytes, size: int | None = None) -> Event:
    """The event in `raw` (one JSON object in UTF-8); raises Refused with every reason found.

    `size` is how many bytes it had where the source cut it above `MAX_BYTES`.
    """
    if (size := size or len(raw)) > MAX_BYTES:
        raise Refused([f"record: {size} bytes, at most {MAX_BYTES} allowed"])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused([f"record: not UTF-8 at byte {error.start}"]) from None
    if "\x00" in text:
        raise Refused(["record: holds a NUL byte"])
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except Refused:
        raise
    except (ValueError, RecursionError) as error:
        raise Refused([f"record: not one JSON object: {error}"]) from None
    if not isinstance(value, dict):
        raise Refused([f"record: a JSON {type(value).__name__}, an object is needed"])
    return check_event(contract, cast(dict[str, Any], value))


def check_event(contract: Contract, value: Mapping[str, Any]) -> Event:
    """The typed event of a decoded JSON object; raises Refused with every reason found."""
    unknown = [name for name in value if name not in contract.fields]
    reasons = [f"{_show(name)}: unknown field" for name in unknown]
    misspelt = {_plain(name) for name in unknown}
    event: Event = {}
    for name, field in contract.fields.items():
        try:
            event[name] = check_value(field, value.get(name))
        except ValueError as error:
            reasons.append(f"{name}: {error}")
    kind = event.get("event_type")
    for name, field in contract.fields.items():
        needed = field.required or kind in field.required_for
        if needed and value.get(name) is None and _plain(name) not in misspelt:
            reasons.append(f"{name}: required" + ("" if field.required else f" for {kind}"))
    if reasons:
        raise Refused(reasons)
    return event


def check_arrival(contract: Contract, event: Event, arrived_at: int) -> None:
    """Raise Refused when the event lies further in the future of its arrival (µs) than allowed."""
    ahead = event["event_time"] - arrived_at
    if ahead > contract.max_future_skew:
        raise Refused(
            [f"event_time: {ahead / 1e6:g} s after its arrival, at most "
             f"{contract.max_future_skew / 1e6:g} s allowed"]
        )  # fmt: skip


def check_retention(contract: Contract, event: Event) -> None:
    """Raise Expired when the event lies further before its stamped arrival than the retention.

    An event without a stamp arrived when it happened.
    """
    stamp, kept = event["arrived_at"], contract.retention
    if stamp is not None and kept is not None and stamp - event["event_time"] > kept:
        raise Expired([f"event_time: above {kept / DAY:g} days (the retention) before its arrival"])


def payload_digest(event: Event) -> str:
    """32 hex digits over what the event says: same id and digest is a duplicate, else a conflict.

    The arrival stamp is not part of what an event says.
    """
    said = {k: v for k, v in event.items() if k != "arrived_at" and v is not None}
    text = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def check_value(field: Field, value: Any) -> Any:
    """The typed value of one field, None for null; ValueError with value and rule otherwise."""
    if value is None:
        return None
    match field.type:
        case "string":
            return _string(field, value)
        case "timestamp":
            if not isinstance(value, str):
                raise ValueError(f"{_show(value)} is not an RFC 3339 string")
            return parse_time(value)
        case "boolean":
            if not isinstance(value, bool):
                raise ValueError(f"{_show(value)} is not a boolean")
            return value
        case "integer":
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{_show(value)} is not an integer")
            if abs(value) > EXACT_INTEGER:
                raise ValueError(f"{_show(value)} is beyond 2^53")
            _range(field, value)
            return value
        case "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{_show(value)} is not a number")
            if abs(value) > EXACT_INTEGER or not math.isfinite(value):
                raise ValueError(f"{_show(value)} is not finite or beyond 2^53")
            _range(field, value)
            return float(value)


def _string(field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_show(value)} is not a string")
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in value):
        raise ValueError("holds a lone surrogate")
    if "\x00" in value:
        raise ValueError("holds a NUL character")
    if field.values and value not in field.values:
        raise ValueError(f"{_show(value)} is not one of {', '.join(field.values)}")
    if field.min_length is not None and len(value) < field.min_length:
        raise ValueError(f"{_show(value)} is shorter than {field.min_length}")
    if field.max_length is not None and len(value) > field.max_length:
        raise ValueError(f"{len(value)} characters, at most {field.max_length} allowed")
    if field.regex and not field.regex.fullmatch(value):
        raise ValueError(f"{_show(value)} does not match {field.pattern}")
    return value


def _range(field: Field, value: float) -> None:
    if field.minimum is not None and value < field.minimum:
        raise ValueError(f"{value} is below {field.minimum:g}")
    if field.maximum is not None and value > field.maximum:
        raise ValueError(f"{value} is above {field.maximum:g}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        times = Counter(name for name, _ in pairs)
        raise Refused([f"{_show(name)}: stands {n} times" for name, n in times.items() if n > 1])
    return found


def _no_constant(name: str) -> Any:
    raise Refused([f"record: {name} is not JSON"])


def _plain(name: str) -> str:
    """What a field's name is without case, width and space, so that a slip is told once."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} that is nested too deeply"
    return text if len(text) <= 64 else text[:61] + "..."
