"""The columns of a table that somebody else made: what they must be."""

from collections.abc import Collection, Iterable

from pyspark.sql import DataFrame

from data_contracts.contract import Contract

_INTEGERS = ("bigint", "int", "smallint", "tinyint")
_TYPES = {"integer": _INTEGERS, "number": ("double", "float", *_INTEGERS)}
"""The Spark types of a contract's type, where they are not of its name."""


def check_columns(
    contract: Contract, rows: DataFrame, time: str, fields: Iterable[str], taken: Collection[str]
) -> None:
    """Raise ValueError naming the column of `rows` that is missing or of another type than its
    event field (`time` a timestamp), or one whose name is taken."""
    types = dict(rows.dtypes)
    needed = {time: "timestamp", **{name: contract.fields[name].type for name in fields}}
    if strange := [name for name in types if "." in name]:
        raise ValueError(f"the table: columns {strange} have dots, which Spark splits: rename them")
    for name, kind in needed.items():
        if name not in types:
            raise ValueError(f"the table: no column {name!r}: it is needed, as {kind}")
        if types[name] not in _TYPES.get(kind, (kind,)):
            raise ValueError(
                f"the table: column {name!r} is {types[name]}, {kind} is needed: cast it"
            )
    if both := sorted({*types} & {*taken}):
        raise ValueError(f"the table: columns {both} have names that are added: rename them")
