"""The Great Expectations suite says what the contract says."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import DataFrame, SparkSession

from data_contracts.contract import Contract, read_contract
from data_contracts.use_case import UseCase
from spark_jobs.expectations import suite_of, validate_partition
from spark_jobs.schemas import event_fields

NOON = "2019-11-26 12:00:00"
GOOD = {
    "event_id": "e1",
    "event_type": "view",
    "event_time": NOON,
    "user_id": "u-1",
    "price": 2.5,
    "shelf": "left",
}


def text(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "logicalType": "string", **more}


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """A contract with every kind of rule."""
    bounds = {"minimum": 0, "maximum": 10}
    kinds = [{"value": "view"}, {"value": "sale"}]
    sales = [{"property": "requiredFor", "value": ["sale"]}]
    length, pattern = {"minLength": 2, "maxLength": 4}, {"pattern": "u-[0-9]+"}
    properties = [
        text("event_id", required=True),
        text("event_type", required=True, enum=kinds),
        {"name": "event_time", "logicalType": "timestamp", "required": True},
        {"name": "arrived_at", "logicalType": "timestamp"},
        text("user_id", required=True, logicalTypeOptions=pattern),
        {"name": "price", "logicalType": "number", "logicalTypeOptions": bounds,
         "customProperties": sales},
        text("shelf", logicalTypeOptions=length),
    ]  # fmt: skip
    document = {
        "apiVersion": "v3.1.0", "kind": "DataContract", "id": "shop", "version": "1.0.0",
        "status": "active", "schema": [{"name": "events", "properties": properties}],
        "customProperties": [{"property": "maxFutureSkewSeconds", "value": 60}],
    }  # fmt: skip
    path = Path(tmp_path_factory.mktemp("contract")) / "events.odcs.yaml"
    path.write_text(yaml.safe_dump(document))
    return read_contract(path)


def frame(spark: SparkSession, contract: Contract, *rows: dict[str, Any]) -> DataFrame:
    fields = event_fields(contract)
    table = spark.createDataFrame(
        [tuple(row.get(field.name) for field in fields) for row in rows],
        ", ".join(
            f"{f.name} string" if f.name.endswith(("_time", "_at")) else
            f"{f.name} {f.dataType.simpleString()}" for f in fields
        ),
    )  # fmt: skip
    times = {name: table[name].cast("timestamp") for name in ("event_time", "arrived_at")}
    return table.withColumns(times)


def test_the_suite_states_each_rule_of_the_contract_once(clicks: UseCase) -> None:
    rules = [(e.expectation_type, getattr(e, "column", "table")) for e in suite_of(clicks.contract)]
    assert len(rules) == len(set(rules))
    assert ("expect_table_row_count_to_be_between", "table") in rules
    assert ("expect_column_values_to_be_unique", "event_id") in rules
    for field in clicks.contract.fields.values():
        mine = {rule for rule, column in rules if column == field.name}
        assert field.required == ("expect_column_values_to_not_be_null" in mine)
        assert bool(field.values) == ("expect_column_values_to_be_in_set" in mine)
        assert (field.minimum is not None) == ("expect_column_values_to_be_between" in mine)


def test_events_that_keep_the_contract_pass(spark: SparkSession, contract: Contract) -> None:
    sale = {**GOOD, "event_id": "e2", "event_type": "sale", "price": 10.0, "shelf": None}
    view = {**GOOD, "event_id": "e3", "price": None}
    found = validate_partition(contract, frame(spark, contract, GOOD, sale, view))
    assert () == found.failed
    assert found.success
    assert len(suite_of(contract)) + 1 == found.evaluated


def test_each_broken_rule_is_named(spark: SparkSession, contract: Contract) -> None:
    rows = [
        GOOD,
        GOOD,
        {**GOOD, "event_id": "e2", "event_type": "theft"},
        {**GOOD, "event_id": "e3", "event_time": None},
        {**GOOD, "event_id": "e4", "user_id": "v-1"},
        {**GOOD, "event_id": "e5", "price": 10.5},
        {**GOOD, "event_id": "e6", "shelf": "cellar"},
        {**GOOD, "event_id": "e7", "event_type": "sale", "price": None},
    ]
    found = validate_partition(contract, frame(spark, contract, *rows))
    assert not found.success
    assert {
        "event_id: expect_column_values_to_be_unique",
        "event_type: expect_column_values_to_be_in_set",
        "event_time: expect_column_values_to_not_be_null",
        "user_id: expect_column_values_to_match_regex",
        "price: expect_column_values_to_be_between",
        "shelf: expect_column_value_lengths_to_be_between",
        "price: required for sale",
    } == set(found.failed)


def test_an_empty_partition_fails(spark: SparkSession, contract: Contract) -> None:
    found = validate_partition(contract, frame(spark, contract, GOOD).limit(0))
    assert not found.success
    assert ("table: expect_table_row_count_to_be_between",) == found.failed
