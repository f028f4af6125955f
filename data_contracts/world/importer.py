"""The generated world's log holds canonical events already."""

from collections.abc import Iterator, Mapping
from typing import Any


def canonical(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The row itself."""
    yield dict(row)
