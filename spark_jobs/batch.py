"""Batch tables on their way to the landing log: a row is a line, so that a line names its row."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from data_contracts.batch_table import BatchTable
from data_contracts.lake import Lake
from spark_jobs.imports import file_rows, readable_files


def batch_lines(spark: SparkSession, lake: Lake, table: BatchTable, source: Path) -> list[Path]:
    """Write the events of a batch table, one file of JSON lines for each of its files.

    `source` is a Delta table, or a file or folder that can be imported; line n is row n. Raises
    ValueError naming a file that cannot be read, holds no row, or lacks a declared column.
    """
    if (source / "_delta_log").is_dir():
        return [_write(lake, table, source, _delta_rows(spark, table, source))]
    return [_write(lake, table, path, file_rows(path)) for path in readable_files(source)]


def _delta_rows(spark: SparkSession, table: BatchTable, source: Path) -> list[dict[str, Any]]:
    """The declared columns that there are, in an order that does not change from read to read."""
    rows = spark.read.format("delta").load(str(source))
    names = [name for name in table.columns if name in rows.columns]
    return rows.select(names).orderBy(names).toArrow().to_pylist()


def _write(lake: Lake, table: BatchTable, source: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    lake.batch.mkdir(parents=True, exist_ok=True)
    path = lake.batch / f"{table.name}-{source.name}.jsonl"
    part = path.with_suffix(".part")
    found: set[str] = set()
    with open(part, "w", encoding="utf-8") as lines:
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise ValueError(f"{source}: row {number}: {row!r:.64} is no object of columns")
            found |= row.keys()
            lines.write(table.line(row) + "\n")
    if lacking := [name for name in table.columns if name not in found]:
        part.unlink()
        raise ValueError(
            f"{source}: no row has {lacking}, which batch table {table.name} declares: "
            f"its columns are {sorted(found)}"
        )
    os.replace(part, path)
    return path
