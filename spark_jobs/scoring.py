"""Batch scoring: rows of a table, their features at their own times, the scores of one bundle.

What the server does with a request, for a whole table: the same features, encoding and graph.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.types import DoubleType, StringType, StructField, StructType

from data_contracts.contract import Field
from data_contracts.encoding import encode_dense, encode_ids
from data_contracts.lake import Lake
from data_contracts.record import check_value
from data_contracts.use_case import UseCase
from data_contracts.views import Reading, View, ViewRegistry, joint_digest, reading
from spark_jobs.attributes import with_declared
from spark_jobs.columns import micros
from spark_jobs.engine import Graph, engine
from spark_jobs.events import load_events
from spark_jobs.given_columns import check_columns
from spark_jobs.keys import key_column
from spark_jobs.point_in_time import INTERNAL, with_group
from spark_jobs.tables import newest_seq, read_rows, written_columns
from spark_jobs.worker_errors import told_by_workers

SCORES = StructType(
    [
        StructField("score", DoubleType()),
        StructField("refused", StringType()),
        StructField("model_version", StringType()),
    ]
)
"""What a table of scores holds beside the columns that were given."""

Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True)
class Provenance:
    """What scores were made of: JSON in the user metadata of the table's commit."""

    use_case: str
    model: str
    version: str
    bundle: str
    definitions: str
    """Digest over the features as the model takes them."""
    rows: str
    rows_version: int | None
    """The Delta version that was read; None of a parquet table."""
    time: str
    """The column that held each row's query time."""
    seq: int
    """Features are of the events up to this micro-batch."""


def score_table(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    graph: Graph,
    version: str,
    table: Path,
    time: str,
    out: Path,
) -> dict[str, object]:
    """Score every row of the Delta or parquet `table` as a request with its fields at its `time`
    would be, and put the Delta table `out`, in one commit, in place of earlier scores there.

    A row gets a null score and the reason in `refused` where the server would answer 422. Returns
    the provenance and the numbers of rows and of those refused. Raises ValueError for columns that
    are missing, taken or of the wrong type, for an `out` that holds something else, and for a graph
    that gives no probability.
    """
    if (held := written_columns(spark, out)) is not None and not {*SCORES.names} <= held:
        raise ValueError(f"{out}: exists and holds no scores: name another folder")
    rows, rows_version = read_rows(spark, table)
    rows = with_declared(use_case, lake, rows, use_case.inputs, time)
    features = graph.manifest.feature_digests
    views = [View(group, "ready") for group in use_case.groups]
    views += [View(view.group, "ready") for view in ViewRegistry(lake).views().values()]
    found = reading(features, views)
    names = {name for group in found.groups for name in group.feature_names}
    taken = {*names, *SCORES.names, *INTERNAL}
    check_columns(use_case.contract, rows, time, use_case.inputs, taken)
    seq = newest_seq(spark, lake.events)
    events = load_events(spark, use_case, lake).where(sf.col("seq") <= seq)
    filled = _with_features(events, rows, found, time)
    scored = filled.mapInArrow(
        _scorer(use_case, graph, version, rows.columns, time),
        StructType([*rows.schema, *SCORES]),
    )
    made_of = Provenance(
        use_case.name, graph.manifest.model, version, graph.digest, joint_digest(features),
        str(table), rows_version, time, seq,
    )  # fmt: skip
    writer = scored.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
    with told_by_workers(str(table)):
        writer.option("userMetadata", json.dumps(asdict(made_of))).save(str(out))
    counts = spark.read.format("delta").load(str(out)).agg(sf.count("*"), sf.count("refused"))
    total, refused = counts.collect()[0]
    return {**asdict(made_of), "out": str(out), "scored": total - refused, "refused": refused}


def _with_features(events: DataFrame, rows: DataFrame, found: Reading, time: str) -> DataFrame:
    """`rows` with column `_feature_{place}` for each place of the model's vector."""
    for group, columns, places in zip(found.groups, found.columns, found.places, strict=True):
        named = [
            sf.col(group.feature_names[column]).alias(f"_feature_{place}")
            for column, place in zip(columns, places, strict=True)
        ]
        held = rows.columns
        rows = with_group(group, events, rows, key_column(group.key_fields), time)
        rows = rows.select(*held, *named)
    return rows


def _scorer(
    use_case: UseCase, graph: Graph, version: str, given: Sequence[str], time: str
) -> Callable[[Batches], Batches]:
    fields = {name: use_case.contract.fields[name] for name in use_case.inputs}
    required = {name for name in use_case.identity if fields[name].required}
    places = [f"_feature_{place}" for place in range(len(graph.manifest.features))]
    spec = use_case.model

    def score(batches: Batches) -> Batches:
        model = engine(graph)
        for batch in batches:
            refused = _refused(fields, required, batch, time)
            sound = np.array([reason is None for reason in refused], bool)
            part = batch.filter(pa.array(sound))
            rows = part.select([*fields]).to_pylist()
            features = np.column_stack([part[name].to_numpy() for name in places])
            ids = encode_ids(spec.categorical, rows, micros(part[time]).tolist())
            scores = np.zeros(len(sound))
            scores[sound] = model.score(ids, encode_dense(spec.numeric, rows, features))
            added = [
                pa.array(scores, mask=~sound),
                pa.array(refused, pa.string()),
                pa.repeat(pa.scalar(version), len(sound)),
            ]
            columns = [*(batch[name] for name in given), *added]
            yield pa.RecordBatch.from_arrays(columns, [*given, *SCORES.names])

    return score


def _refused(
    fields: dict[str, Field], required: set[str], batch: pa.RecordBatch, time: str
) -> list[str | None]:
    """Per row why the server would refuse it: a reason a field; None where it would not."""
    found: list[list[str]] = [[] for _ in range(len(batch))]
    for i in np.flatnonzero(np.asarray(batch[time].is_null())):
        found[i].append(f"{time}: required")
    for name, field in fields.items():
        encoded = batch[name].dictionary_encode()
        said = [_reason(field, value) for value in encoded.dictionary.to_pylist()]
        absent = "required" if name in required else None
        if not any(said) and (absent is None or not batch[name].null_count):
            continue
        for i, code in enumerate(encoded.indices.to_pylist()):
            if reason := absent if code is None else said[code]:
                found[i].append(f"{name}: {reason}")
    return ["; ".join(reasons) or None for reasons in found]


def _reason(field: Field, value: object) -> str | None:
    try:
        check_value(field, value)
    except ValueError as error:
        return str(error)
    return None
