"""The generated world's log, without the fields that no aggregate here is of."""

from collections.abc import Iterator, Mapping
from typing import Any

LEFT_OUT = {"request_id", "segment", "session_id"}


def canonical(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The row without those fields."""
    yield {name: value for name, value in row.items() if name not in LEFT_OUT}
