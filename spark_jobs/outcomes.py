"""The prediction log in Delta, joined with the labels that have matured since."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of, joint_digest
from spark_jobs.events import load_events
from spark_jobs.labels import label_rows
from spark_jobs.prediction_log import PredictionLogReader
from spark_jobs.tables import exists, load, replace

_TIME = pa.timestamp("us", "UTC")
_RELEASE = pa.schema(
    [
        ("unit", pa.string()),
        ("arm", pa.string()),
        ("epoch", pa.int64()),
        ("release", pa.int64()),
        ("canary_bps", pa.int64()),
        ("fallback", pa.string()),
    ]
)
"""How the plan of a rollout assigned a request (null in records made before there was one):
whom the unit belongs to, and why the champion answered in place of the candidate."""
_CHOICE = pa.schema(
    [
        ("rank", pa.int64()),
        ("boost", pa.float64()),
        ("slot_propensity", pa.float64()),
        ("slate_propensity", pa.float64()),
        ("temperature", pa.float64()),
        ("seed", pa.string()),
        ("inputs", pa.string()),
    ]
)
"""In which place a candidate was to be shown, and how likely that was (null where a use case
chooses no order): `slot_propensity` of an explored slot given those above it, null below them. Of a
drawn order also the candidate's fields as JSON, by which other versions can score it."""
_KEY_TYPES = {"string": pa.string(), "integer": pa.int64()}


@dataclass(frozen=True)
class Collected:
    """What the prediction log held, and what of it could be joined."""

    requests: int
    off_policy: int
    """Answers by a version that was asked for by name: logged, and no predictions of traffic."""
    predictions: int
    gaps: int
    """Answers that were numbered but not logged, up to the last record of each log; what was lost
    after it shows only against the number of answered requests."""
    torn_bytes: int
    versions: tuple[str, ...]
    """The model versions that answered."""
    store_failures: int
    """Requests answered with defaults because the online store could not be read."""
    last_version: str
    """The champion, where it answered; else the version that answered last."""
    late: int
    """Predictions whose q lies after their label's window, as in a replay of a period that the
    stream has taken already: they may have been served their own outcome, and are no outcomes."""
    outcomes: int
    """Predictions of the last version whose label has matured."""
    positives: int


def collect_outcomes(
    spark: SparkSession, use_case: UseCase, lake: Lake, champion: str | None = None
) -> Collected:
    """Move what is new in the prediction log to `lake.predictions`, and rewrite `lake.outcomes`.

    A prediction that is in the table already stays as it is. Raises ValueError when the log holds
    no prediction at all.
    """
    log = PredictionLogReader(lake)
    for logged in log.fresh():
        answers = [record for record in logged if "shadow" not in record]
        if records := [record for record in answers if not record.get("off_policy")]:
            _insert(spark, lake.predictions, prediction_rows(use_case, records))
        if copies := [record["shadow"] for record in logged if "shadow" in record]:
            _insert(spark, lake.shadow_scores, shadow_rows(copies))
    taken = [*log.files.values()]
    answered = [(at, version) for each in taken for version, at in each.versions.items()]
    if not answered:
        raise ValueError(
            f"{lake.prediction_log}: no prediction yet: ask the server of `headrace serve`, or run "
            "`headrace replay`"
        )
    predictions = with_shadow(spark, lake, load(spark, lake.predictions))
    labelled = with_labels(use_case, predictions, load_events(spark, use_case, lake)).persist()
    try:
        late = labelled.where("late").count()
        replace(labelled.where("not late").drop("late", "inputs"), lake.outcomes)
    finally:
        labelled.unpersist()
    versions = {version for _, version in answered}
    last = champion if champion in versions else max(answered)[1]
    mine = load(spark, lake.outcomes).where(sf.col("version") == last)
    found = mine.agg(sf.count("*"), sf.sum("label")).collect()[0]
    return Collected(
        requests=sum(each.requests for each in taken),
        off_policy=sum(each.off_policy for each in taken),
        predictions=predictions.count(),
        gaps=sum(each.gaps for each in taken),
        versions=tuple(sorted(versions)),
        store_failures=sum(each.store_failures for each in taken),
        torn_bytes=log.torn_bytes(),
        last_version=last,
        late=late,
        outcomes=found[0],
        positives=found[1] or 0,
    )


def with_shadow(spark: SparkSession, lake: Lake, predictions: DataFrame) -> DataFrame:
    """With `shadow_version` and `shadow_score` of who scored a copy; null where nobody did."""
    if not exists(spark, lake.shadow_scores):
        nothing = {"shadow_version": sf.lit(None).cast("string")}
        nothing["shadow_score"] = sf.lit(None).cast("double")
        return predictions.withColumns(nothing)
    return predictions.join(load(spark, lake.shadow_scores), "prediction_id", "left")


def with_labels(use_case: UseCase, predictions: DataFrame, events: DataFrame) -> DataFrame:
    """The predictions whose label row exists and has matured, with `event_id`, `label`, `late`,
    and `label_q`, the query time of the label row.

    Rows of one request with the same keys are one outcome: positive if any of them is.
    """
    keys = [sf.col(name).alias(f"_{name}") for name in use_case.identity]
    settled = label_rows(use_case, events).where("mature")
    rows = settled.groupBy(sf.col("request").alias("_request"), *keys).agg(
        sf.min("event_id").alias("event_id"),
        sf.max("label").alias("label"),
        sf.min("q").alias("label_q"),
        sf.max("event_time").alias("_shown"),
    )
    same = [sf.col("request_id") == sf.col("_request")]
    same += [sf.col(name).eqNullSafe(sf.col(f"_{name}")) for name in use_case.identity]
    joined = predictions.join(rows, same)
    within = sf.expr(f"INTERVAL {use_case.label.window} MICROSECOND")
    joined = joined.withColumn("late", sf.col("q") > sf.col("_shown") + within)
    return joined.drop("_request", "_shown", *(f"_{name}" for name in use_case.identity))


def prediction_rows(use_case: UseCase, records: list[dict[str, Any]]) -> pa.Table:
    """One row per candidate: ids, `q`, keys, `features` float64 list, `seqs` by view that was read,
    `view_of` each feature, the joint digest of its `definitions`, score.

    Of a request that was answered again the first record counts. `features`, `seqs` and `view_of`
    are null where the record was made under other definitions than the declared ones.
    """
    declared = joint_digest(digests_of(use_case.groups))
    known: set[str] = set()
    columns: dict[str, list[Any]] = {name: [] for name in _schema(use_case).names}
    for record in records:
        comparable = record["definitions"] == declared
        for i, name in enumerate(record["prediction_ids"]):
            if name in known:
                continue
            known.add(name)
            row = {
                "prediction_id": name,
                "request_id": record["request_id"],
                "q": record["q"],
                "features": record["features"][i] if comparable else None,
                "seqs": record["seqs"][i] if comparable else None,
                "view_of": record["view_of"] if comparable else None,
                "definitions": record["definitions"],
                "score": record["scores"][i],
                "model": record["model"],
                "version": str(record["version"]),
                **{name: record.get(name) for name in _RELEASE.names},
                **_chosen(record, i),
                **{key: record["inputs"][i].get(key) for key in _keys(use_case)},
            }
            for column, value in row.items():
                columns[column].append(value)
    return pa.table(columns, schema=_schema(use_case))


def _chosen(record: dict[str, Any], row: int) -> dict[str, Any]:
    """The columns of `_CHOICE` for a row of a request."""
    choice = record.get("choice")
    if choice is None or "ranks" not in choice:
        return dict.fromkeys(_CHOICE.names)
    rank, slots = choice["ranks"][row], choice.get("slot_propensities", [])
    return {
        **{name: choice.get(name) for name in _CHOICE.names},
        "rank": rank,
        "boost": choice["boosts"][row],
        "slot_propensity": slots[rank - 1] if rank <= len(slots) else None,
        "inputs": json.dumps(record["inputs"][row]) if "temperature" in choice else None,
    }


def _schema(use_case: UseCase) -> pa.Schema:
    fields = use_case.contract.fields
    return pa.schema(
        [
            ("prediction_id", pa.string()),
            ("request_id", pa.string()),
            ("q", _TIME),
            ("features", pa.list_(pa.float64())),
            ("seqs", pa.list_(pa.int64())),
            ("view_of", pa.list_(pa.int64())),
            ("definitions", pa.string()),
            ("score", pa.float64()),
            ("model", pa.string()),
            ("version", pa.string()),
            *((column.name, column.type) for column in (*_RELEASE, *_CHOICE)),
            *((name, _KEY_TYPES[fields[name].type]) for name in _keys(use_case)),
        ]
    )


def _keys(use_case: UseCase) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*use_case.entities, *use_case.identity)))


def shadow_rows(copies: list[dict[str, Any]]) -> pa.Table:
    """One row per prediction: what the candidate of a shadow said of it, the first one if it was
    asked again."""
    found: dict[str, tuple[str, float]] = {}
    for copy in copies:
        for name, score in zip(copy["prediction_ids"], copy["scores"], strict=True):
            found.setdefault(name, (str(copy["version"]), score))
    versions = [version for version, _ in found.values()]
    scores = pa.array([score for _, score in found.values()], pa.float64())
    columns = {
        "prediction_id": pa.array([*found], pa.string()),
        "shadow_version": pa.array(versions, pa.string()),
        "shadow_score": scores,
    }
    return pa.table(columns)


def _insert(spark: SparkSession, path: Path, rows: pa.Table) -> None:
    """Add the rows whose `prediction_id` is not there yet."""
    fresh = spark.createDataFrame(rows, from_arrow_schema(rows.schema))
    if not exists(spark, path):
        replace(fresh, path)
        return
    table = DeltaTable.forPath(spark, str(path))
    merge = table.alias("old").merge(fresh.alias("new"), "old.prediction_id = new.prediction_id")
    merge.withSchemaEvolution().whenNotMatchedInsertAll().execute()
