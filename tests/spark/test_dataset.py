"""Labels of one's own and one value explained, on a small ingested log, against the oracle."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from data_contracts.aggregates import Count
from data_contracts.clock import HOUR, MINUTE, format_time
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.use_case import UseCase
from data_contracts.windows import Lifetime, Session
from spark_jobs.dataset import build_dataset
from spark_jobs.explain import explain
from spark_jobs.stream import ingest_available
from tests.spark.lakes import NOON, click, impression, land_at, to_file, typed

LOG = [
    *(
        impression(f"e{i}", NOON + i * MINUTE, user=f"u{i % 2}", position=1 + i % 3)
        for i in range(9)
    ),
    click("e2", NOON + 3 * MINUTE, user="u0"),
]
ROWS = [
    {"user_id": "u0", "item_id": "i1", "at": NOON + 4 * MINUTE, "bought": 1},
    {"user_id": "u1", "item_id": None, "at": NOON + HOUR, "bought": 0},
    {"user_id": "nobody", "item_id": "i1", "at": NOON, "bought": 0},
    {"user_id": "u0", "item_id": "i1", "at": NOON + 4 * MINUTE, "bought": 0},
]


WANTED, TIME = "item_impressions_1h", pa.timestamp("us", "UTC")


@pytest.fixture
def ingested(spark: SparkSession, clicks: UseCase, lake: Lake, tmp_path: Path) -> Lake:
    land_at(lake, to_file(tmp_path / "log.jsonl", LOG))
    ingest_available(spark, clicks, lake)
    return lake


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    rows = pa.Table.from_pylist(ROWS)
    times = rows["at"].cast(pa.timestamp("us", "UTC"))
    path = tmp_path / "labels.parquet"
    pq.write_table(rows.set_column(rows.column_names.index("at"), "at", times), path)
    return path


def test_own_labels_get_the_oracles_features_at_their_own_time(
    spark: SparkSession, clicks: UseCase, ingested: Lake, labels: Path, tmp_path: Path
) -> None:
    out, events = tmp_path / "out", typed(clicks, LOG)
    wanted = ["item_impressions_1h", "user_ctr_24h", "user_clicks_10m"]
    assert 4 == build_dataset(spark, clicks, ingested, labels, out, wanted, "at")
    found = pq.read_table(out)
    assert ["user_id", "item_id", "at", "bought", *wanted] == found.column_names
    expected = []
    for row in ROWS:
        values: dict[str, float] = {}
        for group in clicks.groups:
            features = oracle_features(group, events, str(row[group.entity]), int(row["at"]))
            values |= dict(zip(group.feature_names, features, strict=True))
        expected.append({**row, **{name: values[name] for name in wanted}})
    got = [{**row, "at": round(row["at"].timestamp() * 1e6)} for row in found.to_pylist()]
    assert sorted(expected, key=str) == sorted(got, key=str)


@pytest.mark.parametrize(
    ("features", "time", "said"),
    [
        (["user_clicks_9y"], "at", "features .'user_clicks_9y'.: not declared"),
        ([], "when", "no column 'when'"),
        ([], "bought", "column 'bought' is bigint, timestamp is needed"),
    ],
)
def test_labels_that_cannot_be_joined_are_refused_by_name(
    spark: SparkSession, clicks: UseCase, ingested: Lake, labels: Path, tmp_path: Path,
    features: list[str], time: str, said: str,
) -> None:  # fmt: skip
    with pytest.raises(ValueError, match=said):
        build_dataset(spark, clicks, ingested, labels, tmp_path / "out", features, time)
    assert not (tmp_path / "out").exists()


def test_labels_as_pandas_writes_them_get_what_others_get(
    spark: SparkSession, clicks: UseCase, ingested: Lake, labels: Path, tmp_path: Path
) -> None:
    """Times in nanoseconds; and a feature that is asked for twice."""
    rows = pq.read_table(labels)
    table = rows.set_column(2, "at", pa.array([row["at"] + 1 for row in ROWS], TIME))
    pq.write_table(table, labels)
    build_dataset(spark, clicks, ingested, labels, tmp_path / "out", [WANTED], "at")
    expected = sorted(pq.read_table(tmp_path / "out").to_pylist(), key=str)
    frame = table.to_pandas().astype({"at": "datetime64[ns, UTC]"})
    frame.to_parquet(tmp_path / "pandas")
    assert "ns" == pq.read_schema(tmp_path / "pandas").field("at").type.unit
    asked = tmp_path / "pandas", tmp_path / "other", [WANTED, WANTED]
    build_dataset(spark, clicks, ingested, *asked, "at")
    found = pq.read_table(tmp_path / "other")
    assert [*rows.column_names, WANTED] == found.column_names
    assert expected == sorted(found.to_pylist(), key=str)
    for unit in ("us", "ns"):
        zoneless = table.to_pandas().astype({"at": f"datetime64[{unit}, UTC]"})
        zoneless["at"] = zoneless["at"].dt.tz_localize(None)
        zoneless.to_parquet(tmp_path / f"zoneless_{unit}")
        to = tmp_path / f"of_zoneless_{unit}"
        build_dataset(spark, clicks, ingested, tmp_path / f"zoneless_{unit}", to, [WANTED], "at")
        assert expected == sorted(pq.read_table(to).to_pylist(), key=str)
    pq.write_table(table, tmp_path / "int96", use_deprecated_int96_timestamps=True)
    build_dataset(spark, clicks, ingested, tmp_path / "int96", tmp_path / "96", [WANTED], "at")
    assert expected == sorted(pq.read_table(tmp_path / "96").to_pylist(), key=str)
    frame.rename(columns={"bought": "label.bought"}).to_parquet(tmp_path / "dotted")
    with pytest.raises(ValueError, match=r"columns .'label.bought'. have dots"):
        build_dataset(spark, clicks, ingested, tmp_path / "dotted", tmp_path / "no", [], "at")


def test_what_is_no_table_is_refused_by_its_path(
    spark: SparkSession, clicks: UseCase, ingested: Lake, tmp_path: Path
) -> None:
    for path in (tmp_path / "labels.csv", tmp_path / "folder" / "labels.csv"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("user_id,at\nu0,2019-11-24T12:00:00Z\n")
    for given in (tmp_path / "labels.csv", tmp_path / "folder"):
        with pytest.raises(ValueError, match=f"{given}: neither a Delta table nor parquet"):
            build_dataset(spark, clicks, ingested, given, tmp_path / "out", [WANTED], "at")


def test_a_session_is_explained_by_its_own_chain(
    spark: SparkSession, clicks: UseCase, ingested: Lake
) -> None:
    windows = (Session("90s"), Lifetime())
    group = FeatureGroup("user", "user_id", {"n": Count()}, windows)
    said = explain(spark, clicks, ingested, group, "u0", NOON + 5 * MINUTE)
    assert {"user_n_session_90s": 3.0, "user_n_lifetime": 4.0} == said.values
    assert ["e2", "e2-click", "e4"] == said.windows["session_90s"]["events"]
    assert ["e0", "e2", "e2-click", "e4"] == said.windows["lifetime"]["events"]


def test_a_value_is_explained_by_its_window_its_tiles_and_its_events(
    spark: SparkSession, clicks: UseCase, ingested: Lake
) -> None:
    group, q = clicks.groups[0], NOON + 7 * MINUTE
    said = explain(spark, clicks, ingested, group, "u0", q)
    expected = oracle_features(group, typed(clicks, LOG), "u0", q)
    assert expected == list(said.values.values())
    ten = said.windows["10m"]
    assert (format_time(q - 10 * MINUTE), format_time(q)) == (ten["from"], ten["to"])
    assert ["e0", "e2", "e4", "e6"] == [i for i in ten["events"] if "click" not in i]
    assert len(ten["tiles"]) == 5
    assert [] == said.windows["last_1d"]["events"]
