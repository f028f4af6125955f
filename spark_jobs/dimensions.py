"""Dimension tables in Delta: rows are only ever appended, so that every version stays readable."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from data_contracts.clock import format_time
from data_contracts.contract import Contract
from data_contracts.dimension import VALID_FROM, Dimension, DimensionRow
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.columns import micros
from spark_jobs.imports import file_rows, readable_files
from spark_jobs.lease import writer_lease

NONE = -1
"""The version of a table that is not there."""

_TYPES = {"string": pa.string(), "integer": pa.int64()}
_KEPT = {"delta.logRetentionDuration": "interval 36500 days"}
"""A batch may come again, and ask for the version that it began with, at any time."""


@dataclass(frozen=True)
class Loaded:
    """What loading a file found."""

    rows: int
    added: int
    """Of these, how many the table did not hold yet."""
    keys: int
    """Distinct keys of the table from now on."""


def load_dimension(use_case: UseCase, lake: Lake, dimension: Dimension, source: Path) -> Loaded:
    """Append the rows of `source` (parquet, JSON lines, or a folder of them) that are new.

    Columns are the dimension's key, `valid_from` and its attributes. All or nothing: ValueError
    naming file, row and what is wrong, also for another row of the same key and `valid_from`.
    """
    with writer_lease(lake.dimensions):
        table = stored_rows(lake, dimension, newest_version(lake, dimension))
        held = {(row.key, row.valid_from): row.values for row in table}
        fresh: list[DimensionRow] = []
        count = 0
        for path, number, row in _file_rows(use_case.contract, dimension, source):
            count += 1
            before = held.setdefault((row.key, row.valid_from), row.values)
            if before is row.values:
                fresh.append(row)
            elif before != row.values:
                raise ValueError(
                    f"{path}: row {number}: dimension {dimension.name}: {row.key!r} from "
                    f"{format_time(row.valid_from)} is {before} already, not {row.values}: a "
                    "change needs a later valid_from"
                )
        append_rows(use_case, lake, dimension, fresh)
        return Loaded(count, len(fresh), len({key for key, _ in held}))


def append_rows(
    use_case: UseCase, lake: Lake, dimension: Dimension, rows: Sequence[DimensionRow]
) -> None:
    """Append rows, of which the table holds none yet, in one commit; none is no commit."""
    if not rows:
        return
    fields = use_case.contract.fields
    columns: dict[str, pa.Array] = {
        dimension.key: pa.array([r.key for r in rows], _TYPES[fields[dimension.key].type]),
        VALID_FROM: pa.array([r.valid_from for r in rows], pa.timestamp("us", "UTC")),
    }
    for place, name in enumerate(dimension.attributes):
        columns[name] = pa.array([r.values[place] for r in rows], _TYPES[fields[name].type])
    path = lake.dimensions / dimension.name
    lake.dimensions.mkdir(parents=True, exist_ok=True)
    write_deltalake(
        path, pa.table(columns), mode="append", schema_mode="merge", configuration=_KEPT
    )


def stored_rows(lake: Lake, dimension: Dimension, version: int) -> list[DimensionRow]:
    """The rows of a version of the dimension's table; none before its first load.

    Raises ValueError for a version that is gone, or a table of another key.
    """
    if version == NONE:
        return []
    path = lake.dimensions / dimension.name
    try:
        table = DeltaTable(path, version=version).to_pyarrow_table()
    except (DeltaError, OSError) as error:
        raise ValueError(
            f"{path}: version {version}, which a batch took its attributes from, cannot be read "
            f"({error}): restore the folder"
        ) from error
    columns = {name: table[name].to_pylist() for name in table.column_names}
    if dimension.key not in columns:
        raise ValueError(
            f"{path}: holds no {dimension.key}, the key of dimension {dimension.name}, but "
            f"{sorted(columns)}: give a dimension of another key another name"
        )
    return list(dimension.held({**columns, VALID_FROM: micros(table[VALID_FROM]).tolist()}))


def newest_version(lake: Lake, dimension: Dimension) -> int:
    """The version of the dimension's table; NONE before its first load."""
    path = str(lake.dimensions / dimension.name)
    return DeltaTable(path).version() if DeltaTable.is_deltatable(path) else NONE


def _file_rows(
    contract: Contract, dimension: Dimension, source: Path
) -> Iterator[tuple[Path, int, DimensionRow]]:
    for path in readable_files(source):
        found: set[str] = set()
        for number, said in enumerate(file_rows(path), 1):
            try:
                row = dimension.row(contract, said)
            except (ValueError, AttributeError) as error:
                raise ValueError(
                    f"{path}: row {number}: dimension {dimension.name}: {error}"
                ) from error
            found |= said.keys()
            yield path, number, row
        if lacking := [name for name in dimension.attributes if name not in found]:
            raise ValueError(
                f"{path}: no row has {lacking}, which dimension {dimension.name} declares: its "
                f"columns are {sorted(found)}"
            )
