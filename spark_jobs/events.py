"""The events table under its contract, which may have gained fields since its rows were written."""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.types import StructType

from data_contracts.lake import Lake
from data_contracts.use_case import CONTRACT, UseCase
from spark_jobs.schemas import events_schema, type_name
from spark_jobs.tables import load


def load_events(
    spark: SparkSession, use_case: UseCase, lake: Lake, version: int | None = None
) -> DataFrame:
    """The events, as they are or were at a `version` of their table, with every declared field;
    null in rows that are older than their field.

    Raises ValueError when there is no table yet, and as `check_fields` does.
    """
    events = load(spark, lake.events, version)
    check_fields(use_case, lake, events.schema)
    for field in events_schema(use_case.contract):
        if field.name not in events.columns:
            events = events.withColumn(field.name, sf.lit(None).cast(field.dataType))
    return events


def arrival(events: DataFrame) -> Column:
    """When each event arrived; its own time where nothing was stamped."""
    time = sf.col("event_time")
    return sf.coalesce("arrived_at", time) if "arrived_at" in events.columns else time


def check_fields(use_case: UseCase, lake: Lake, table: StructType) -> None:
    """Raises ValueError naming a field that the events table (of schema `table`) holds under
    another type than the declared, or that the contract dropped; one that it lacks it may gain."""
    declared = {field.name: field for field in events_schema(use_case.contract)}
    held = {field.name: field for field in table}
    contract = use_case.folder / CONTRACT
    for name, field in held.items():
        kind = type_name(field.dataType)
        if name not in declared:
            raise ValueError(
                f"{contract}: field {name} is not declared, but {lake.events} holds it as {kind}: "
                f"declare it as {kind} again (it may be optional), or start from an empty root"
            )
        if declared[name].dataType != field.dataType:
            raise ValueError(
                f"{contract}: field {name} is declared as {type_name(declared[name].dataType)}, "
                f"but {lake.events} holds it as {kind}: declare it as {kind} again and name the "
                "other one anew, or start from an empty root"
            )


def with_day(events: DataFrame) -> DataFrame:
    """The events with the UTC day of their time, `day` as YYYY-MM-DD."""
    return events.withColumn("day", sf.date_format("event_time", "yyyy-MM-dd"))
