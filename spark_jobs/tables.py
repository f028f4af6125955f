"""Delta tables by path: does it exist, load it, append to it exactly once."""

import re
from pathlib import Path

import deltalake
import pyarrow as pa
from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentWriteException,
)
from delta.tables import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow.dataset import dataset
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

BUSY = (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentWriteException,
)
"""What a rewrite of a table raises when another got there first; nothing was changed then."""


def exists(spark: SparkSession, path: Path) -> bool:
    """Whether a Delta table stands at `path`."""
    return DeltaTable.isDeltaTable(spark, str(path))


def load(spark: SparkSession, path: Path, version: int | None = None) -> DataFrame:
    """The table at `path`, as it is or was at `version`; ValueError naming it and the mend when
    there is none."""
    if not exists(spark, path):
        raise ValueError(f"{path}: no such table yet: run `headrace ingest` (or `headrace demo`)")
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.load(str(path))


def version_of(spark: SparkSession, path: Path) -> int:
    """The newest version of the Delta table at `path`; ValueError as `load` raises it."""
    load(spark, path)
    return int(DeltaTable.forPath(spark, str(path)).history(1).collect()[0]["version"])


def read_rows(spark: SparkSession, path: Path) -> tuple[DataFrame, int | None]:
    """The Delta table at `path` as it is now, with its version; else the parquet there, and None.

    Times in nanoseconds, as pandas writes them, are cut to the µs, and those without a zone are
    UTC. ValueError when it is neither.
    """
    if exists(spark, path):
        version = version_of(spark, path)
        return _zoned(load(spark, path, version)), version
    try:
        schema = dataset(str(path), format="parquet").schema
        rows = spark.read.parquet(str(path))
    except (AnalysisException, pa.ArrowInvalid, FileNotFoundError) as error:
        raise ValueError(f"{path}: neither a Delta table nor parquet: give one") from error
    longs = {name for name, kind in rows.dtypes if kind == "bigint"}
    for field in schema:
        # Spark's INT96 is told as ns too, and Spark reads it as a time.
        if field.name in longs and pa.types.is_timestamp(field.type):
            ns = f"`{field.name}`"
            moment = sf.expr(f"timestamp_micros(({ns} - pmod({ns}, 1000L)) div 1000)")
            rows = rows.withColumn(field.name, moment.cast("timestamp"))
    return _zoned(rows), None


def _zoned(rows: DataFrame) -> DataFrame:
    """Times without a zone, as pandas writes them by default, as times of UTC, which is the
    session's zone."""
    for name, kind in rows.dtypes:
        if kind == "timestamp_ntz":
            rows = rows.withColumn(name, sf.col(f"`{name}`").cast("timestamp"))
    return rows


def written_columns(spark: SparkSession, path: Path) -> set[str] | None:
    """The columns of the Delta table at `path`, none of anything else; None where nothing is, or
    what a writer left that never committed."""
    if exists(spark, path):
        return {*load(spark, path).columns}
    return set() if path.exists() and not (path / "_delta_log").is_dir() else None


def newest_seq(spark: SparkSession, path: Path) -> int:
    """The highest seq of the table's rows; 0 where there is none."""
    found = load(spark, path).agg({"seq": "max"}).first()
    return int(found[0]) if found and found[0] is not None else 0


def append_once(rows: pa.Table, path: Path, writer: str, version: int) -> None:
    """Append unless `writer` (one per query, table and step) already wrote `version`.

    The table gains the columns that it lacks, null in its older rows. By delta-rs: before an append
    that bears a writer's version, Spark makes the table's whole state anew, and with that and the
    plan of a write the append was over half of a micro-batch's time. RuntimeError naming the table
    where it cannot be written; ValueError naming a column that holds a null against its schema.
    """
    for field in rows.schema:
        if not field.nullable and rows[field.name].null_count:
            raise ValueError(f"{path}: {field.name} would be null in a row, and never may be")
    # In the table itself every column may be null: Spark makes tables so.
    rows = rows.cast(pa.schema([field.with_nullable(True) for field in rows.schema]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        table: deltalake.DeltaTable | Path = path
        if deltalake.DeltaTable.is_deltatable(str(path)):
            table = deltalake.DeltaTable(path)
            written = table.transaction_version(writer)
            if written is not None and written >= version:
                return
        mark = deltalake.CommitProperties(app_transactions=[deltalake.Transaction(writer, version)])
        deltalake.write_deltalake(
            table, rows, mode="append", schema_mode="merge", commit_properties=mark
        )
    except (DeltaError, OSError) as error:
        said = " ".join(re.sub(r"\x1b\[\d+m|↳", "", str(error)).split())
        raise RuntimeError(f"{path}: could not be appended to: {said}") from error


def replace(
    frame: DataFrame,
    path: Path,
    where: str | None = None,
    about: str | None = None,
    kept: bool = False,
) -> None:
    """Overwrite the table, or only the rows of the predicate `where`; `about` is kept in the
    commit's user metadata. `kept`: a table that is made has every version for good."""
    writer = frame.write.format("delta").mode("overwrite")
    if kept:
        writer = writer.option("delta.logRetentionDuration", "interval 36500 days")
    if about:
        writer = writer.option("userMetadata", about)
    if where:
        writer = writer.option("replaceWhere", where)
    else:
        writer = writer.option("overwriteSchema", "true")
    writer.save(str(path))
