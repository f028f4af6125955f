"""What a feature group must keep to be right: refused when declared, naming group and field."""

import json
import math
import re
from fractions import Fraction
from typing import Any, cast, get_args

from data_contracts.accumulators import (
    EXACT,
    TIME,
    Accumulator,
    Decayed,
    Nulls,
    Source,
    normal,
)
from data_contracts.aggregates import (
    Aggregate,
    ApproxDistinct,
    Count,
    DecayedCount,
    DecayedSum,
    Distinct,
    FrequentItems,
    LastK,
    Quantile,
    Sum,
    TopK,
)
from data_contracts.clock import DAY, SECOND, duration
from data_contracts.contract import Contract
from data_contracts.definitions import from_json, to_json
from data_contracts.derived import Derived, Rate
from data_contracts.entries import Entries
from data_contracts.features import FeatureGroup
from data_contracts.naming import naming
from data_contracts.windows import Lifetime, Session, Sliding, Tumbling, Window

_COUNTS = (Count, DecayedCount, Distinct, ApproxDistinct)
_ZERO = (*_COUNTS, DecayedSum)
"""What is 0 where its window holds nothing, whatever default is declared."""
OVERFLOW = 2**63
"""What a sum's state cannot hold."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def check_group(group: FeatureGroup, contract: Contract) -> None:
    """Raise ValueError naming group and field for a declaration that cannot be right."""
    with naming(f"group {group.name}"):
        _check_form(group)
        _check_entity(group, contract)
        _check_windows(group)
        _check_ttl(group)
        _check_retention(group, contract)
        for name, aggregate in group.aggregates.items():
            with naming(f"aggregate {name}"):
                _check_aggregate(aggregate)
                for part in aggregate.parts:
                    _check_source(part, aggregate, contract, group.max_events)
        _check_derived(group)
        _check_features(group, contract)
        _check_record(group)
        _check_size(group)


def _check_form(group: FeatureGroup) -> None:
    """What every later rule may rely on: names, kinds, filters and numbers that are such."""
    for what, names in (
        ("group", [group.name]),
        ("aggregate", group.aggregates),
        ("derived", group.derived),
    ):
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{what} {name!r}: a name is lower-case letters, digits and _: rename it"
                )
    if isinstance(cast(Any, group.windows), get_args(Window)):
        raise ValueError(f'windows {group.windows!r}: give a tuple, e.g. (Sliding("1h"),)')
    _check_kinds("window", {repr(window): window for window in group.windows}, Window)
    _check_kinds("aggregate", group.aggregates, Aggregate)
    _check_kinds("derived", group.derived, Derived)
    for name, aggregate in group.aggregates.items():
        with naming(f"aggregate {name}"):
            normal(aggregate.where)
        of = f"aggregate {name}: {getattr(aggregate, 'field', '')!r}"
        _check_field(of, getattr(aggregate, "field", ""))
        for option in ("scale", "cap", "k", "bits"):
            number: Any = getattr(aggregate, option, 1)
            if not isinstance(number, int):
                raise ValueError(f"{of}: {option} {number!r}: give a whole number")
        nulls = getattr(aggregate, "nulls", "skip")
        if nulls not in get_args(Nulls):
            raise ValueError(f"{of}: nulls {nulls!r}: say one of {get_args(Nulls)}")
        if (scale := getattr(aggregate, "scale", 1)) < 1:
            raise ValueError(f"{of}: scale {scale}: give a whole number from 1 on")
    for name, default in group.defaults.items():
        if not math.isfinite(default):
            raise ValueError(f"defaults: {name} {default!r}: give a finite number")
        if isinstance(group.aggregates.get(name), _ZERO):
            kind = type(group.aggregates[name]).__name__
            raise ValueError(f"defaults: {name}: a {kind} of nothing is 0: leave it out")
    if not group.max_events >= 1:
        raise ValueError(f"max_events {group.max_events} is below 1")


def _check_field(of: str, field: Any) -> None:
    if not isinstance(field, str):
        raise ValueError(f"{of}: field {field!r}: name a field of the contract")
    if field == TIME:
        raise ValueError(f"{of}: is a time, not a number: SinceLast says how long ago one was")


def _check_kinds(what: str, held: Any, known: Any) -> None:
    for name, value in held.items():
        if not isinstance(value, get_args(known)):
            kinds = ", ".join(kind.__name__ for kind in get_args(known))
            raise ValueError(f"{what} {name}: {value!r} is none of {kinds}")


def _check_entity(group: FeatureGroup, contract: Contract) -> None:
    fields = group.key_fields
    if len(set(fields)) != len(fields) or not 1 <= len(fields) <= 2:
        raise ValueError(f"entity {fields}: name one field, or two different ones")
    for name in fields:
        if name not in contract.fields:
            raise ValueError(f"entity {name!r} is not in {contract.name}")
        if (kind := contract.fields[name].type) not in ("string", "integer"):
            raise ValueError(f"entity {name!r} is a {kind}: name a string or an integer field")
    if not group.aggregates or not group.windows:
        raise ValueError("declare at least one aggregate and one window")
    if unknown := set(group.defaults) - set(group.aggregates):
        raise ValueError(f"defaults for unknown {sorted(unknown)}")


def _check_windows(group: FeatureGroup) -> None:
    for window in group.windows:
        _ = window.bounds(0), window.tiles
    labels = [window.label for window in group.windows]
    if len(set(labels)) != len(labels):
        raise ValueError(f"windows {sorted(labels)}: two share a name: leave one out")
    sessions: dict[int, Session] = {}
    for window in group.windows:
        if isinstance(window, Session):
            other = sessions.setdefault(window.level, window)
            if other.hop != window.hop:
                raise ValueError(
                    f"windows {other.label} (within {other.within}) and {window.label} (within "
                    f"{window.within}) have one gap, and share segments that they cut at other "
                    "times: declare them in two groups, or within the same"
                )
    if any(isinstance(part, Decayed) for part in group.parts):
        for window in group.windows:
            if not isinstance(window, Sliding):
                raise ValueError(
                    f"window {window.label}: a decayed aggregate needs sliding windows, whose "
                    "tiles have an age: declare it in a group of its own"
                )


def reach(window: Window) -> int | None:
    """µs from an event on after which no query's window holds it; None where that never comes."""
    match window:
        case Sliding():
            return duration(window.width) + window.hop
        case Tumbling():
            return 2 * duration(window.width)
        case Session():
            return duration(window.within) + window.hop
        case Lifetime():
            return None


def _check_ttl(group: FeatureGroup) -> None:
    if not group.ttl:
        return
    with naming("ttl"):
        ttl = duration(group.ttl)
    for window in group.windows:
        far = reach(window)
        if far is None:
            raise ValueError(
                f"window {window.label}: it never forgets, so its keys have no ttl: leave one out"
            )
        if ttl < far:
            raise ValueError(
                f"window {window.label}: it reaches back {far // SECOND} s, ttl {group.ttl} would "
                "change its values: declare a longer one"
            )


def _check_retention(group: FeatureGroup, contract: Contract) -> None:
    kept = contract.retention
    if kept is None:
        return
    for window in group.windows:
        if isinstance(window, Lifetime):
            continue
        held = window.within if isinstance(window, Session) else window.width
        if duration(held) > kept:
            raise ValueError(
                f"window {window.label}: holds {held}, above the retention of {contract.name} "
                f"({kept / DAY:g} days): narrow it, or raise the retention"
            )


def _check_aggregate(aggregate: object) -> None:
    if isinstance(aggregate, Distinct | TopK) and aggregate.cap < 1:
        raise ValueError("declare a cap: how many distinct values a tile may hold")
    if isinstance(aggregate, TopK) and not 1 <= aggregate.k <= aggregate.cap:
        raise ValueError(f"k {aggregate.k} is not between 1 and the cap {aggregate.cap}")
    if isinstance(aggregate, FrequentItems) and not 16 <= aggregate.sample <= 4096:
        raise ValueError(f"sample {aggregate.sample} is not between 16 and 4096")
    if isinstance(aggregate, FrequentItems) and not 1 <= aggregate.k <= aggregate.sample:
        raise ValueError(f"k {aggregate.k} is not between 1 and the sample {aggregate.sample}")
    if isinstance(aggregate, LastK) and aggregate.k < 1:
        raise ValueError(f"k {aggregate.k} is below 1")
    if isinstance(aggregate, ApproxDistinct) and not 7 <= aggregate.bits <= 12:
        raise ValueError(f"bits {aggregate.bits} are not between 7 and 12")
    if isinstance(aggregate, Quantile) and not 0 < aggregate.rank <= 1:
        raise ValueError(f"rank {aggregate.rank} is not above 0 and at most 1")
    if isinstance(aggregate, Quantile) and 10**6 % Fraction(str(aggregate.rank)).denominator:
        raise ValueError(f"rank {aggregate.rank}: give six decimals at most")


def _check_source(part: object, aggregate: object, contract: Contract, events: int) -> None:
    weight = 1
    if isinstance(part, Decayed):
        part, weight = part.base, Decayed.SCALE
    source = cast(Source, part.source if isinstance(part, Accumulator | Entries) else None)
    for name, values in source.where:
        if name not in contract.fields:
            raise ValueError(f"where: field {name!r} is not in the contract")
        if unknown := set(values) - set(contract.fields[name].values):
            kind = "event types" if name == "event_type" else f"values of {name!r}"
            raise ValueError(f"{kind} {sorted(unknown)} are not declared")
    if source.field is None or source.field == TIME:
        return  # Of no field: how many events there were, or when.
    if source.field not in contract.fields:
        raise ValueError(f"field {source.field!r} is not in the contract")
    field = contract.fields[source.field]
    if field.type == "string" and getattr(aggregate, "strings", False):
        if source.scale != 1 or source.nulls != "skip":
            raise ValueError(f"{field.name!r} is a string: it has no scale and no zero")
        return
    if field.type not in ("integer", "number"):
        raise ValueError(f"field {field.name!r} is {field.type}, not a number")
    if isinstance(part, Accumulator) and part.of == "count":
        return
    additive = isinstance(part, Accumulator) and part.reduce == "add"
    if field.type == "number" and source.scale == 1:
        raise ValueError(
            f"the number {field.name!r} needs a scale (e.g. 1000000): values are kept and summed "
            "as whole 1/scale, for a float sum depends on the order of its events"
        )
    if field.minimum is None or field.maximum is None:
        raise ValueError(
            f"{field.name!r}: declare minimum and maximum in the contract, "
            "or one valid event could overflow the state"
        )
    most = math.ceil(max(-field.minimum, field.maximum) * source.scale)
    if most >= EXACT:
        raise ValueError(
            f"{field.name!r}: its range x scale {source.scale} reaches 2^53: lower one of them"
        )
    square = isinstance(part, Accumulator) and part.of == "square"
    if additive and (most * most if square else most) * weight * events >= OVERFLOW:
        raise ValueError(
            f"{field.name!r}: its range x scale {source.scale}{', squared,' if square else ''} "
            f"summed over {events} events (max_events) reaches 2^63: lower one of them"
        )


def _check_derived(group: FeatureGroup) -> None:
    for name, made in group.derived.items():
        for side in made.of:
            if side not in group.aggregates:
                raise ValueError(f"derived {name}: {side!r} is no aggregate of the group")
            if len(group.aggregates[side].outputs) != 1:
                raise ValueError(f"derived {name}: {side!r} has several outputs")
        if name in group.aggregates:
            raise ValueError(f"derived {name}: an aggregate has this name: rename one")
        if isinstance(made, Rate):
            if type(group.aggregates[made.denominator]) not in _COUNTS:
                raise ValueError(f"derived {name}: {made.denominator!r} is no count")
            if type(group.aggregates[made.numerator]) not in (*_COUNTS, Sum):
                raise ValueError(f"derived {name}: {made.numerator!r} is no count or sum")
            if not (0 < made.strength < math.inf and math.isfinite(made.prior)):
                raise ValueError(
                    f"derived {name}: strength must be above 0, and both it and prior finite"
                )


def _check_features(group: FeatureGroup, contract: Contract) -> None:
    made: dict[str, str] = {}
    for feature, name, window in group.declared:
        one = f"{name} over {window.label}"
        if feature in made:
            raise ValueError(f"feature {feature}: is {made[feature]}, and {one}: rename one")
        if feature in contract.fields:
            raise ValueError(f"feature {feature}: {contract.name} has a field of its name: rename")
        made[feature] = one


def _check_size(group: FeatureGroup) -> None:
    sketched = set(group.sketched)
    views = {"max_state_bytes": {*group.features} - sketched, "max_sketch_bytes": sketched}
    for limit, features in views.items():
        needed, most = group.only(features).state_bytes if features else 0, getattr(group, limit)
        if needed > most:
            raise ValueError(
                f"the state of one key may take {needed} bytes, allowed are {most}: fewer or "
                f"shorter windows, lower caps, or {limit}"
            )


def _check_record(group: FeatureGroup) -> None:
    """The online store keeps definitions as JSON: one that came back as another could never be
    read."""
    try:
        held = from_json(json.loads(json.dumps(to_json(group))))
    except TypeError as error:
        raise ValueError(f"{error}: use plain numbers and strings") from error
    for name, digest in group.feature_digests.items():
        if held.feature_digests.get(name) != digest:
            raise ValueError(
                f"feature {name}: its record is another: use plain numbers and strings"
            )
