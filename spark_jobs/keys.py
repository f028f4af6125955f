"""`data_contracts.keys` for whole columns: of a Spark frame, of an Arrow table."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as sf


def key_column(fields: Sequence[str]) -> Column:
    """string: the text of each row's key, null where the row belongs to none."""
    parts = [sf.col(name).cast("string") for name in fields]
    before = [c for p in parts[:-1] for c in (sf.length(p).cast("string"), sf.lit(":"), p)]
    return sf.concat(*before, parts[-1])


def key_array(fields: Sequence[str], rows: pa.Table) -> pa.ChunkedArray:
    """As `key_column`, of an Arrow table."""
    parts = [rows[name].cast(pa.string()) for name in fields]
    if len(parts) == 1:
        return parts[0]
    before = [c for p in parts[:-1] for c in (_length(p), pa.scalar(":"), p)]
    options = pc.JoinOptions(null_handling="emit_null")
    joined = [*before, parts[-1], pa.scalar("")]
    return pc.call_function("binary_join_element_wise", joined, options)


def _length(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.call_function("utf8_length", [texts]).cast(pa.string())
