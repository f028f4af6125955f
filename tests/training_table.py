"""A training set that is written without Spark, with what its builder says in its commit."""

from typing import Literal

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake

from data_contracts.built_from import built_from
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase

MADE_OF = {"events": 12, "dimension.item": 3}
"""Table -> Delta version, as if it had been built from them."""


def write_rows(
    use_case: UseCase,
    lake: Lake,
    rows: pa.Table,
    mode: Literal["error", "append", "overwrite"] = "error",
) -> None:
    """Write `lake.training_set` as of the declarations of `use_case`."""
    said = {"userMetadata": built_from(use_case, MADE_OF).to_json()}
    about = CommitProperties(custom_metadata=said)
    schema = "overwrite" if mode == "overwrite" else None
    write_deltalake(lake.training_set, rows, mode=mode, schema_mode=schema, commit_properties=about)
