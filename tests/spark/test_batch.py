"""A table of another system as events: its values at their times, its bad rows by their place."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.batch import load_batch
from data_contracts.aggregates import Count, Last
from data_contracts.batch_table import BatchTable
from data_contracts.clock import HOUR, MINUTE
from data_contracts.features import FeatureGroup
from data_contracts.oracle import oracle_features
from data_contracts.record import parse_record
from data_contracts.views import digests_of
from data_contracts.windows import Lifetime, Sliding
from serving.features import FeatureReader
from spark_jobs.batch import batch_lines
from tests.parity.shop import shop
from tests.spark.lakes import NOON, original, rows_of

PRICES = BatchTable(
    "prices", "snapshot", "at", {"item_id": "sku", "affinity": "price"}, key=("item_id",)
)
ITEM = FeatureGroup(
    name="item",
    entity="item_id",
    aggregates={
        "price": Last("affinity", where=("snapshot",), scale=100),
        "prices": Count(where=("snapshot",)),
    },
    windows=(Sliding("1h"), Lifetime()),
)
ROWS: list[dict[str, Any]] = [
    {"sku": 12, "price": 9.99, "at": NOON, "colour": "red"},
    {"sku": 12, "price": 8.49, "at": NOON + HOUR, "colour": "red"},
    {"sku": -7, "price": 1.25, "at": NOON + MINUTE, "colour": None},
    {"sku": -7, "price": float("nan"), "at": NOON + 2 * MINUTE, "colour": None},
    {"sku": 12_345, "price": 3.0, "at": NOON, "colour": None},
    {"sku": 0, "price": 5.0, "at": None, "colour": None},
    {"sku": 12, "price": 7.77, "at": NOON, "colour": "red"},
]


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    table = pa.Table.from_pylist(rows)
    times = table["at"].cast(pa.timestamp("us", "UTC"))
    pq.write_table(table.set_column(table.column_names.index("at"), "at", times), path)
    return path


@pytest.fixture
def deployment(spark: SparkSession, tmp_path: Path) -> Deployment:
    use_case = shop((ITEM,))
    fields = dict(use_case.contract.fields)
    kinds = (*fields["event_type"].values, "snapshot")
    fields["event_type"] = replace(fields["event_type"], values=kinds)
    contract = replace(use_case.contract, fields=fields)
    declared = replace(use_case.declared, batch_tables=(PRICES,))
    PRICES.check(contract)
    found = Deployment(root=tmp_path / "root")
    use_case = replace(use_case, contract=contract, declared=declared)
    vars(found).update(spark=spark, use_case=use_case)
    return found


def test_a_table_s_rows_are_features_and_its_bad_rows_are_quarantined_by_file_and_row(
    deployment: Deployment, tmp_path: Path
) -> None:
    source = parquet(tmp_path / "today.parquet", ROWS)
    loaded = load_batch(deployment, "prices", source)
    assert {
        "records": 7,
        "events": 3,
        "duplicates": 0,
        "conflicts": 1,
        "quarantined": 3,
        "expired": 0,
    } == (loaded["added"])
    lake, use_case = deployment.lake, deployment.use_case
    bad = rows_of(deployment.spark, lake.quarantine)
    assert {"prices-today.parquet.jsonl"} == {original(row["origin"]) for row in bad}
    reasons = {row["line"]: row["reasons"] for row in bad}
    assert [4, 5, 6, 7] == sorted(reasons)
    assert "NaN is not JSON" in reasons[4]
    assert "item_id: 12345 is above 10000" in reasons[5]
    assert "event_time: required" in reasons[6]
    assert "differs from" in reasons[7]
    good = [PRICES.line({**row, "at": datetime.fromisoformat(at)}) for row, at in _timed(ROWS[:3])]
    events = [parse_record(use_case.contract, line.encode()) for line in good]
    reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
    for q in (NOON + MINUTE + 1, NOON + HOUR, NOON + HOUR + 1, NOON + 3 * HOUR):
        served = reader.read_now([{"item_id": 12}, {"item_id": -7}, {"item_id": 0}], q)
        expected = [oracle_features(ITEM, events, key, served.q) for key in (12, -7, 0)]
        assert expected == served.values.tolist()
    more = parquet(tmp_path / "more.parquet", [*ROWS[:3], {**ROWS[0], "at": NOON + 4 * HOUR}])
    added = load_batch(deployment, "prices", more)["added"]
    assert (1, 3, 0) == (added["events"], added["duplicates"], added["quarantined"])


def _timed(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """Each row with its time as text without a zone."""
    whole = [
        datetime.fromtimestamp(row["at"] // 1_000_000, UTC).replace(tzinfo=None).isoformat()
        for row in rows
    ]
    return list(zip(rows, whole, strict=True))


def test_a_delta_table_gives_the_same_lines_as_its_rows(
    deployment: Deployment, tmp_path: Path
) -> None:
    source = parquet(tmp_path / "rows.parquet", ROWS[:3])
    rows = deployment.spark.read.parquet(str(source))
    rows.repartition(2).write.format("delta").save(str(tmp_path / "delta"))
    parts = (deployment.spark, deployment.lake, PRICES)
    (from_file,) = batch_lines(*parts, source)
    (from_delta,) = batch_lines(*parts, tmp_path / "delta")
    lines = sorted(from_file.read_text().splitlines())
    assert lines == sorted(from_delta.read_text().splitlines())
    assert 3 == len(lines)


def test_a_table_that_is_not_declared_or_lacks_a_column_is_refused_by_name(
    deployment: Deployment, tmp_path: Path
) -> None:
    source = parquet(tmp_path / "bare.parquet", [{"sku": 12, "at": NOON}])
    with pytest.raises(ValueError, match="'stock' is not declared; declared are: prices"):
        load_batch(deployment, "stock", source)
    with pytest.raises(ValueError, match=r"bare\.parquet: no row has .'price'., which batch table"):
        load_batch(deployment, "prices", source)
    assert not list(deployment.lake.batch.iterdir())
