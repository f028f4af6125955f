"""`headrace score` and labels of one's own where a key comes from a dimension, against the oracle.

Also by a model that was trained on an older definition, and of labels in a Delta table.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from data_contracts.aggregates import Count
from data_contracts.bundle import LOGIT_TOLERANCE
from data_contracts.clock import HOUR
from data_contracts.encoding import encode_dense, encode_ids
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.use_case import UseCase
from data_contracts.views import View, ViewRegistry
from spark_jobs.dataset import build_dataset
from spark_jobs.dimensions import append_rows
from spark_jobs.engine import engine, open_graph
from spark_jobs.scoring import score_table
from spark_jobs.stream import ingest_available
from spark_jobs.tables import load
from tests.integration.world import export
from tests.spark.lakes import NOON, land_at, to_file
from tests.spark.world_log import BEGIN, END, ITEM, LATER, ROWS, WORLD

pytestmark = pytest.mark.full

Q = NOON + 2 * HOUR
ASKED = [
    {"user_id": user, "item_id": item, "at": at, "bought": 1}
    for user in ("u0", "u1", "nobody")
    for item, at in (("i0", Q), ("i1", NOON + HOUR // 4), ("i1", Q), ("i4", Q), ("i9", Q))
]
"""Of u0 and u1 with items of categories c0, c1, from a time on c2, c3, and of none."""

SHOWN_OR_CLICKED = {"clicks": Count(where=("click", "impression"))}


def category(row: dict[str, Any]) -> str | None:
    """What the item's rows hold at the row's time."""
    if row["item_id"] == "i1":
        return "c2" if row["at"] == Q else "c1"
    return {"i0": "c0", "i4": "c3"}.get(row["item_id"])


def earlier() -> UseCase:
    """The world when its taste counted something else."""
    taste = next(group for group in WORLD.groups if group.name == "taste")
    was = replace(taste, aggregates={**taste.aggregates, **SHOWN_OR_CLICKED})
    groups = tuple(was if group is taste else group for group in WORLD.groups)
    return replace(WORLD, declared=replace(WORLD.declared, groups=groups))


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("scored_world")
    lake = Lake(folder / "root", WORLD.name)
    append_rows(WORLD, lake, ITEM, [*ROWS, *LATER])
    land_at(lake, to_file(folder / "log.jsonl", [*BEGIN, *END]))
    ingest_available(spark, WORLD, lake)
    for group in earlier().groups:
        ViewRegistry(lake).put(View(group, "ready"))
    return lake


@pytest.fixture(scope="module")
def events(spark: SparkSession, lake: Lake) -> list[dict[str, Any]]:
    found = load(spark, lake.events).toArrow().to_pylist()
    return [{**e, "event_time": round(e["event_time"].timestamp() * 1e6)} for e in found]


def wanted(
    group: FeatureGroup, events: list[dict[str, Any]], row: dict[str, Any]
) -> dict[str, float]:
    keys = tuple({**row, "category": category(row)}[name] for name in group.key_fields)
    values = group.default_values().tolist()
    if None not in keys:
        values = oracle_features(group, events, keys, row["at"])
    return dict(zip(group.feature_names, values, strict=True))


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    table = pa.Table.from_pylist(rows)
    place = table.column_names.index("at")
    return table.set_column(place, "at", table["at"].cast(pa.timestamp("us", "UTC")))


def inputs(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("user_id", "item_id", "at")},
        "segment": "g1", "device": "mobile", "position": 2, "price": 9.5,
    }  # fmt: skip


@pytest.mark.parametrize("trained_on", [WORLD, earlier()], ids=["today's", "an older definition"])
def test_a_score_is_of_the_attributes_at_its_time_and_of_the_models_own_definition(
    spark: SparkSession, lake: Lake, events: list[dict[str, Any]], tmp_path: Path,
    trained_on: UseCase,
) -> None:  # fmt: skip
    digest = export(trained_on, tmp_path / "bundle").digest()
    graph = open_graph(tmp_path / "bundle", digest)
    write_deltalake(tmp_path / "rows", table_of([inputs(row) for row in ASKED]))
    said = score_table(spark, WORLD, lake, graph, "1", tmp_path / "rows", "at", tmp_path / "out")
    assert (len(ASKED), 0) == (said["scored"], said["refused"])
    given = [{**inputs(row), "category": category(row)} for row in ASKED]
    features = [
        [v for group in trained_on.groups for v in wanted(group, events, row).values()]
        for row in ASKED
    ]
    ids = encode_ids(WORLD.model.categorical, given, [row["at"] for row in ASKED])
    scores = engine(graph).score(ids, encode_dense(WORLD.model.numeric, given, np.array(features)))
    expected = {
        (r["user_id"], r["item_id"], r["at"]): p for r, p in zip(ASKED, scores, strict=True)
    }
    found = DeltaTable(tmp_path / "out").to_pyarrow_table().to_pylist()
    for row in found:
        key = row["user_id"], row["item_id"], round(row["at"].timestamp() * 1e6)
        p, score = expected.pop(key), row["score"]
        assert abs(np.log(p / (1 - p)) - np.log(score / (1 - score))) <= LOGIT_TOLERANCE
        assert category({"item_id": key[1], "at": key[2]}) == row["category"]
    assert {} == expected


def test_labels_in_a_delta_table_get_what_the_same_labels_in_parquet_get(
    spark: SparkSession, lake: Lake, events: list[dict[str, Any]], tmp_path: Path
) -> None:
    pq.write_table(table_of(ASKED), tmp_path / "labels.parquet")
    write_deltalake(tmp_path / "labels", table_of(ASKED[:7]))
    write_deltalake(tmp_path / "labels", table_of(ASKED[7:]), mode="append")
    taste = next(group for group in WORLD.groups if group.name == "taste")
    expected = [{**r, "category": category(r), **wanted(taste, events, r)} for r in ASKED]
    assert 7 == sum(row["taste_impressions_24h"] + row["taste_clicks_24h"] > 0 for row in expected)
    pq.write_table(
        table_of(ASKED).set_column(1, "item_id", pa.array(range(15))), tmp_path / "other"
    )
    asked = tmp_path / "other", tmp_path / "none", taste.feature_names
    with pytest.raises(ValueError, match="column 'item_id' is bigint, string is needed: cast it"):
        build_dataset(spark, WORLD, lake, *asked, "at")
    for name in ("labels.parquet", "labels"):
        out = tmp_path / f"out-{name}"
        build_dataset(spark, WORLD, lake, tmp_path / name, out, taste.feature_names, "at")
        found = pq.read_table(out).to_pylist()
        got = [{**row, "at": round(row["at"].timestamp() * 1e6)} for row in found]
        assert sorted(expected, key=str) == sorted(got, key=str)
