"""Features for labels of one's own: any table with keys and a time, joined point in time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.attributes import with_declared
from spark_jobs.events import load_events
from spark_jobs.given_columns import check_columns
from spark_jobs.keys import key_column
from spark_jobs.point_in_time import INTERNAL, with_group
from spark_jobs.tables import read_rows
from spark_jobs.visibility import with_known_at


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
    _, groups = _wanted(use_case, features)
    rows, _ = read_rows(spark, labels)
    rows = with_declared(use_case, lake, rows, _keys(groups), time)
    events = load_events(spark, use_case, lake)
    if only_known:
        events = with_known_at(spark, use_case, lake, events).events
    found = with_features_at(use_case, events, rows, features, time)
    found.write.parquet(str(out))
    return spark.read.parquet(str(out)).count()


def compared_as_known(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    frame: DataFrame,
    time: str,
    features: Sequence[str] = (),
) -> dict[str, Any]:
    """How the named features (all when none is named) of `frame`, built with `only_known`, differ
    from those built without.

    Per feature the share of values that differ and the mean absolute difference, and how many
    events' times were recorded and how many assumed.
    """
    events = load_events(spark, use_case, lake)
    said = with_known_at(spark, use_case, lake, events)
    names, _ = _wanted(use_case, features)
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
    known by then where the events have a column `_known_at`. Raises ValueError naming a feature
    that is not declared, or a column that is missing or of the wrong type.
    """
    wanted, groups = _wanted(use_case, features)
    check_columns(use_case.contract, rows, time, _keys(groups), {*wanted, *INTERNAL})
    found = rows
    for group in groups:
        found = with_group(group, events, found, key_column(group.key_fields), time)
    return found.select(*rows.columns, *wanted)


def _wanted(use_case: UseCase, features: Sequence[str]) -> tuple[list[str], list[FeatureGroup]]:
    """The features, each once and all when none is named, and the groups that have them."""
    wanted = [*dict.fromkeys(features or use_case.feature_names)]
    if unknown := [name for name in wanted if name not in use_case.feature_names]:
        raise ValueError(f"features {unknown}: not declared: see `headrace features list`")
    return wanted, [g for g in use_case.groups if {*g.feature_names} & {*wanted}]


def _keys(groups: Sequence[FeatureGroup]) -> list[str]:
    return [*dict.fromkeys(name for group in groups for name in group.key_fields)]
