"""A feature group as JSON: what outlives the source code that declared it.

The online store serves views of definitions that the code may have left behind; a view's record
holds its whole definition.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast, get_args

from data_contracts.aggregates import Aggregate
from data_contracts.derived import Derived
from data_contracts.features import FeatureGroup
from data_contracts.windows import Window

_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (FeatureGroup, *get_args(Aggregate), *get_args(Window), *get_args(Derived))
}
_KIND = "$kind"


def to_json(group: FeatureGroup) -> dict[str, Any]:
    """The group as JSON-ready values."""
    return _plain(group)


def from_json(value: Mapping[str, Any]) -> FeatureGroup:
    """The group of `to_json`; ValueError naming a kind that this version does not know."""
    group = _made(value)
    if not isinstance(group, FeatureGroup):
        raise ValueError(f"{value.get(_KIND)!r} is no feature group")
    return group


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        held = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {_KIND: type(value).__name__, **held}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in cast(Mapping[str, Any], value).items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in cast(tuple[Any, ...], value)]
    return value


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_made(each) for each in cast(list[Any], value))
    if not isinstance(value, Mapping):
        return value
    held = {name: _made(each) for name, each in cast(Mapping[str, Any], value).items()}
    if _KIND not in held:
        return held
    kind = held.pop(_KIND)
    if kind not in _KINDS:
        raise ValueError(f"feature definition of kind {kind!r}: this version has no such kind")
    known = {field.name for field in fields(_KINDS[kind])}
    if unknown := set(held) - known:
        raise ValueError(f"feature definition {kind}: {sorted(unknown)} are not known here")
    return _KINDS[kind](**held)
