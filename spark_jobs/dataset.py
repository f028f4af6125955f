"""Features for labels of one's own: any table with keys and a time, joined point in time."""

from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.events import load_events
from spark_jobs.point_in_time import with_group


def build_dataset(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    labels: Path,
    out: Path,
    features: Sequence[str] = (),
    time: str = "event_time",
) -> int:
    """Write the parquet table `labels` with its features beside it to the folder `out`.

    Returns the number of rows. Raises ValueError for what `with_features_at` refuses and for an
    `out` that exists.
    """
    if out.exists():
        raise ValueError(f"{out}: exists already: name a new folder")
    rows = spark.read.parquet(str(labels))
    found = with_features_at(use_case, load_events(spark, use_case, lake), rows, features, time)
    found.write.parquet(str(out))
    return spark.read.parquet(str(out)).count()


def with_features_at(
    use_case: UseCase,
    events: DataFrame,
    rows: DataFrame,
    features: Sequence[str] = (),
    time: str = "event_time",
) -> DataFrame:
    """`rows` with the named features (all when none is named) as they were at the column `time`.

    `rows` holds a timestamp `time` and the key of every entity that the features need; a null key
    gets the declared defaults. No row sees an event at or after its time. Raises ValueError naming
    a feature that is not declared, or a column that is missing or of the wrong type.
    """
    wanted = list(features) or list(use_case.feature_names)
    if unknown := [name for name in wanted if name not in use_case.feature_names]:
        raise ValueError(f"features {unknown}: not declared: see `headrace features list`")
    groups = [group for group in use_case.groups if set(group.feature_names) & set(wanted)]
    _check(rows, time, groups, wanted)
    found = rows
    for group in groups:
        found = with_group(group, events, found, group.entity, time)
    return found.select(*rows.columns, *wanted)


def _check(
    rows: DataFrame, time: str, groups: Sequence[FeatureGroup], wanted: Sequence[str]
) -> None:
    types = dict(rows.dtypes)
    needed = {time: "timestamp", **{group.entity: "string" for group in groups}}
    for name, kind in needed.items():
        if name not in types:
            raise ValueError(f"labels: no column {name!r}: it is needed, as {kind}")
        if types[name] != kind:
            raise ValueError(f"labels: column {name!r} is {types[name]}, {kind} is needed: cast it")
    if taken := sorted(set(types) & set(wanted)):
        raise ValueError(f"labels: columns {taken} are names of features: rename them")
