"""Features for labels of one's own: any table with keys and a time, joined point in time."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from data_contracts.contract import Contract
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.attributes import with_declared
from spark_jobs.events import load_events
from spark_jobs.keys import key_column
from spark_jobs.point_in_time import with_group
from spark_jobs.tables import read_rows
from spark_jobs.visibility import with_known_at

_INTEGERS = ("bigint", "int", "smallint", "tinyint")
_TYPES = {"integer": _INTEGERS, "number": ("double", "float", *_INTEGERS)}
"""The Spark types of a contract's type, where they are not of its name."""


def build_dataset(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    labels: Path,
    out: Path,
    features: Sequence[str] = (),
    time: str = "event_time",
    only_known: bool = False,
) -> int:
    """Write the parquet or Delta table `labels` with its features beside it to the folder `out`;
    with `only_known` from events that could be read online at each row's time.

    Where a dimension holds the key of a group, the labels need that dimension's key only: what it
    holds today of each row's time becomes a column too.

    Returns the number of rows. Raises ValueError for what `with_features_at` refuses and for an
    `out` that exists.
    """
    if out.exists():
        raise ValueError(f"{out}: exists already: name a new folder")
    rows, _ = read_rows(spark, labels)
    rows = with_declared(use_case, lake, rows, use_case.entities, time)
    events = load_events(spark, use_case, lake)
    if only_known:
        events = with_known_at(spark, use_case, lake, events).events
    found = with_features_at(use_case, events, rows, features, time)
    found.write.parquet(str(out))
    return spark.read.parquet(str(out)).count()


def compared_as_known(
    spark: SparkSession, use_case: UseCase, lake: Lake, frame: DataFrame, time: str
) -> dict[str, Any]:
    """How the features of `frame`, built with `only_known`, differ from those built without.

    Per feature the share of values that differ and the mean absolute difference, and how many
    events' times were recorded and how many assumed.
    """
    events = load_events(spark, use_case, lake)
    said = with_known_at(spark, use_case, lake, events)
    names = [name for name in use_case.feature_names if name in frame.columns]
    renamed = frame.withColumnsRenamed({name: f"_known_{name}" for name in names})
    both = with_features_at(use_case, events, renamed, names, time)
    figures = [
        figure.alias(f"{what}_{name}")
        for name in names
        for what, figure in (
            ("differ", sf.avg((sf.col(name) != sf.col(f"_known_{name}")).cast("double"))),
            ("mean_abs", sf.avg(sf.abs(sf.col(name) - sf.col(f"_known_{name}")))),
        )
    ]
    row = both.agg(*figures).toArrow().to_pylist()[0]
    return {
        "events_recorded": said.recorded,
        "events_assumed": said.assumed,
        "assumed_lag": said.assumed_lag,
        "features": {
            name: {what: row[f"{what}_{name}"] for what in ("differ", "mean_abs")} for name in names
        },
    }


def with_features_at(
    use_case: UseCase,
    events: DataFrame,
    rows: DataFrame,
    features: Sequence[str] = (),
    time: str = "event_time",
) -> DataFrame:
    """`rows` with the named features (all when none is named) as they were at the column `time`.

    `rows` holds a timestamp `time` and the key of every entity that the features need; a null key
    gets the declared defaults. No row sees an event at or after its time, nor one that was not
    known by then where the events have a column `known_at`. Raises ValueError naming a feature that
    is not declared, or a column that is missing or of the wrong type.
    """
    wanted = list(features) or list(use_case.feature_names)
    if unknown := [name for name in wanted if name not in use_case.feature_names]:
        raise ValueError(f"features {unknown}: not declared: see `headrace features list`")
    groups = [group for group in use_case.groups if set(group.feature_names) & set(wanted)]
    fields = dict.fromkeys(name for group in groups for name in group.key_fields)
    check_columns(use_case.contract, rows, time, fields, wanted)
    found = rows
    for group in groups:
        found = with_group(group, events, found, key_column(group.key_fields), time)
    return found.select(*rows.columns, *wanted)


def check_columns(
    contract: Contract, rows: DataFrame, time: str, fields: Iterable[str], taken: Collection[str]
) -> None:
    """Raise ValueError naming the column of `rows` that is missing or of another type than its
    event field (`time` a timestamp), or one whose name is taken."""
    types = dict(rows.dtypes)
    needed = {time: "timestamp", **{name: contract.fields[name].type for name in fields}}
    for name, kind in needed.items():
        if name not in types:
            raise ValueError(f"the table: no column {name!r}: it is needed, as {kind}")
        if types[name] not in _TYPES.get(kind, (kind,)):
            raise ValueError(
                f"the table: column {name!r} is {types[name]}, {kind} is needed: cast it"
            )
    if both := sorted({*types} & {*taken}):
        raise ValueError(f"the table: columns {both} have names that are added: rename them")
