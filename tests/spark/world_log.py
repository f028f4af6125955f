"""The small log of `test_replay_of_a_batch` told by the world: most clicks do not say a category.

An impression names its category; what follows from it takes that of its item from the dimension.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from data_contracts.clock import HOUR, MINUTE, SECOND
from data_contracts.dimension import DimensionRow
from data_contracts.use_case import load_use_case
from tests.spark.lakes import NOON, click
from tests.spark.test_replay_of_a_batch import FIRST, THEN

WORLD = load_use_case("world")
(ITEM,) = WORLD.declared.dimensions
ROWS = [DimensionRow(f"i{i}", NOON - HOUR, (f"c{i % 2}",)) for i in range(4)]
"""Of five items one is unknown."""

LATER = [
    DimensionRow("i1", NOON + 30 * MINUTE, ("c2",)),
    DimensionRow("i4", NOON - HOUR, ("c3",)),
]
"""Rows that change the keys of the second batch's clicks, where they are loaded before it."""


def told(records: Iterable[Mapping[str, Any] | bytes]) -> list[dict[str, Any] | bytes]:
    """The records as events of the world; bytes as they are."""
    return [r if isinstance(r, bytes) else _event(r) for r in records]


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in event.items() if name != "affinity"}
    said: dict[str, Any] = {"session_id": "s1"}
    if event["event_type"] == "impression":
        said |= {"device": "mobile", "segment": "g1", "category": "c1", "price": 9.5}
    return kept | said


BEGIN = told(
    [*FIRST, *(click(f"a{i}", NOON + i * SECOND + 1, f"u{i % 3}", f"i{i % 4}") for i in (1, 2, 7))]
)
END = told(
    [
        *THEN,
        *(click(f"b{i}", NOON + HOUR + i + 1, f"u{i % 4}", f"i{i % 5}") for i in range(10)),
    ]
)
