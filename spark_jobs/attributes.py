"""What events and rows take from dimensions; a micro-batch takes what it found when it first began.

Killed and run again, or run again after its commit, it finds the same attributes and so the same
keys, whatever was loaded meanwhile.
"""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.types import StructField, StructType

from data_contracts.dimension import AsOf, Dimension
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.batch_start import BatchStart
from spark_jobs.columns import micros
from spark_jobs.dimensions import NONE, newest_version, stored_rows
from spark_jobs.given_columns import check_columns
from spark_jobs.schemas import event_fields


class PinnedDimensions:
    """The dimensions of a lake as the micro-batches of its one writer see them."""

    def __init__(self, use_case: UseCase, lake: Lake, start: BatchStart) -> None:
        self._declared = use_case.declared.dimensions
        self._lake = lake
        self._start = start
        self._read: dict[str, tuple[int, AsOf]] = {}

    def fill(self, events: pa.Table, seq: int) -> pa.Table:
        """See `writer.Dimensions`."""
        if not self._declared or not len(events):
            return events
        begun = self._start.of(seq).dimensions
        tables = {d.name: self._table(d, begun.get(d.name, NONE)) for d in self._declared}
        return filled(self._declared, tables, events)

    def _table(self, dimension: Dimension, version: int) -> AsOf:
        read, table = self._read.get(dimension.name, (NONE, AsOf()))
        if read != version:
            table = AsOf(stored_rows(self._lake, dimension, version))
            self._read[dimension.name] = version, table
        return table


def filled(
    dimensions: Sequence[Dimension],
    tables: Mapping[str, AsOf],
    rows: pa.Table,
    time: str = "event_time",
) -> pa.Table:
    """The rows with the attributes at their `time` that they lack."""
    for dimension in dimensions:
        keys = rows[dimension.key].to_pylist()
        at = tables[dimension.name].at
        found = [at(key, t) for key, t in zip(keys, micros(rows[time]).tolist(), strict=True)]
        for place, name in enumerate(dimension.attributes):
            values = [values and values[place] for values in found]
            column = pa.chunked_array([pa.array(values, rows[name].type)])
            column = pc.call_function("coalesce", [rows[name], column])
            index = rows.schema.get_field_index(name)
            rows = rows.set_column(index, rows.schema.field(index), column)
    return rows


def with_declared(
    use_case: UseCase, lake: Lake, rows: DataFrame, wanted: Sequence[str], time: str
) -> DataFrame:
    """`rows` with those of the `wanted` event fields that they lack, or hold as null, and a
    dimension has, as of the column `time`; without the dimension's key they stay as they are.
    ValueError naming a column of a dimension that is of another type than its event field."""
    held, dimensions = set(rows.columns), use_case.declared.dimensions
    mine = [d for d in dimensions if d.key in held and {*d.attributes} & {*wanted}]
    if not mine or time not in held:
        return rows
    given = [name for d in mine for name in (d.key, *d.attributes) if name in held]
    check_columns(use_case.contract, rows, time, given, ())
    tables = {d.name: AsOf(stored_rows(lake, d, newest_version(lake, d))) for d in mine}
    fields = {field.name: field for field in event_fields(use_case.contract)}
    gained = [n for d in mine for n in d.attributes if n not in held]
    schema = StructType([*rows.schema, *(StructField(n, fields[n].dataType) for n in gained)])
    for name in gained:
        rows = rows.withColumn(name, sf.lit(None).cast(fields[name].dataType))

    def fill(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from filled(mine, tables, pa.Table.from_batches([batch]), time).to_batches()

    return rows.mapInArrow(fill, schema)


def without_attribute(use_case: UseCase, events: DataFrame) -> dict[str, int]:
    """Attribute -> how many events have the dimension's key and lack it: the key was unknown, or no
    row of it held yet, when they were taken. They belong to no key that has the attribute."""
    pairs = [(name, d.key) for d in use_case.declared.dimensions for name in d.attributes]
    if not pairs:
        return {}
    lacking = [
        sf.count_if(sf.col(key).isNotNull() & sf.col(name).isNull()).alias(name)
        for name, key in pairs
    ]
    return events.agg(*lacking).collect()[0].asDict()
