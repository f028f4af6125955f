"""The checks of a decision as people are shown them."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

COLUMNS = ("gate", "counts as", "verdict", "value", "limit", "n")


def gate_rows(decided: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    """Of each check, in `COLUMNS`: its name, what it counts as (level and mode), verdict, value,
    limit, and the rows, requests or units that it rests on.

    `decided`: as `Decision.as_dict` gave it; no rows where there is no decision.
    """
    return [
        (
            check["name"], f"{check['level']}, {check['mode']}", check["verdict"], check["value"],
            check["limit"], f"{check['n']:,}",
        )
        for check in (decided or {"checks": ()})["checks"]
    ]  # fmt: skip


def gate_table(
    decided: Mapping[str, Any] | None, beside: Mapping[str, Mapping[str, str]] | None = None
) -> Table:
    """`gate_rows` for a terminal; `beside`: further columns, each check -> text."""
    further = beside or {}
    table = Table(*COLUMNS, *further, box=None, pad_edge=False)
    for row in gate_rows(decided):
        # What a check says may look like markup.
        cells = (*row, *(each.get(row[0], "") for each in further.values()))
        table.add_row(*(Text(cell) for cell in cells))
    return table
