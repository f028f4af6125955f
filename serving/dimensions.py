"""The dimension tables of a replica: what a request's row does not say of itself."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from deltalake import DeltaTable

from data_contracts.dimension import VALID_FROM, AsOf, with_attributes
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase

_log = logging.getLogger(__name__)

EVERY_S = 1.0
"""How often at most a replica asks whether a table has changed."""


class DimensionReader:
    """Holds the rows of the declared dimensions, and reads them again when they have changed.

    `failures` counts looks at the tables that failed; what was read before holds on. At the start
    a failure is raised.
    """

    def __init__(self, use_case: UseCase, lake: Lake) -> None:
        self._declared = use_case.declared.dimensions
        self._lake = lake
        self._tables: dict[str, AsOf] = {d.name: AsOf() for d in self._declared}
        self._read: dict[str, tuple[str, int]] = {}
        """Name -> id and version of the table whose rows are held."""
        self.failures = 0
        self._look()
        self._due = time.monotonic() + EVERY_S
        self._looking: asyncio.Task[None] | None = None

    async def filled(self, rows: Sequence[Mapping[str, Any]], q: int) -> list[dict[str, Any]]:
        """The rows with the attributes at `q` (µs) that they lack, of the rows that are held now:
        no request waits for a table."""
        self.refresh()
        return [with_attributes(self._declared, self._tables, row, q) for row in rows]

    def refresh(self) -> None:
        """Begin a look at the tables where one is due and none is under way."""
        looks = self._looking is not None and not self._looking.done()
        if self._declared and not looks and time.monotonic() >= self._due:
            self._looking = asyncio.create_task(self._look_again())

    async def _look_again(self) -> None:
        try:
            await asyncio.to_thread(self._look)
        except Exception:
            # Whatever the table's files or their library raise, the last rows read hold on.
            self.failures += 1
            _log.exception("dimensions: serving the rows that were read before")
        finally:
            self._due = time.monotonic() + EVERY_S

    def _look(self) -> None:
        for dimension in self._declared:
            path = str(self._lake.dimensions / dimension.name)
            if DeltaTable.is_deltatable(path):
                # Not brought up to date in place: that would not notice a table that was replaced.
                stored = DeltaTable(path)
                newest = str(stored.metadata().id), stored.version()
                if newest != self._read.get(dimension.name):
                    self._tables[dimension.name] = AsOf(dimension.held(_columns(stored)))
                    self._read[dimension.name] = newest
            elif dimension.name in self._read:
                raise FileNotFoundError(f"{path}: the table is gone: restore it")


def _columns(stored: DeltaTable) -> dict[str, list[Any]]:
    """The table's columns, `valid_from` in µs."""
    rows = cast(Any, stored).to_pyarrow_table()
    columns = {name: rows[name] for name in rows.column_names}
    columns[VALID_FROM] = columns[VALID_FROM].cast("int64")
    return {name: column.to_pylist() for name, column in columns.items()}
