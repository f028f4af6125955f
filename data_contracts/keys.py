"""The key of a row: the one rule by which every engine tells entities apart.

A part of a key is a string or an integer field. A string counts by its exact code points: nothing
is normalised, trimmed or folded, and the empty string is a key like any other. An integer counts by
its decimal digits. A row that lacks a part belongs to no key. The text of a key is that of its only
part; of a pair it is `{code points of the first}:{first}{second}`, so no text stands for two pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Part = str | int
Key = Part | tuple[Part, ...]
"""The value of an entity, or the values of a pair."""


def text_of(key: Key) -> str:
    """The text under which stores, tiles and Spark know the key."""
    parts = [str(part) for part in key] if isinstance(key, tuple) else [str(key)]
    return "".join(f"{len(part)}:{part}" for part in parts[:-1]) + parts[-1]


def key_in(fields: Sequence[str], row: Mapping[str, Any]) -> Key | None:
    """The key that a row's fields hold; None where one of them is null or absent."""
    parts: list[Part] = [value for name in fields if (value := row.get(name)) is not None]
    if len(parts) < len(fields):
        return None
    return tuple(parts) if len(parts) > 1 else parts[0]


def key_of(fields: Sequence[str], row: Mapping[str, Any]) -> str | None:
    """The text of the key that a row's fields hold; None where the row belongs to no key."""
    key = key_in(fields, row)
    return None if key is None else text_of(key)


def parts_of(text: str, count: int) -> list[str]:
    """The text of each of the `count` parts of a key."""
    parts: list[str] = []
    for _ in range(count - 1):
        length, _, text = text.partition(":")
        parts.append(text[: int(length)])
        text = text[int(length) :]
    return [*parts, text]
