"""A batch that died and comes again is judged as it was when it began."""

from dataclasses import replace

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from data_contracts.clock import DAY, HOUR, ReplayClock, SystemClock
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, load_use_case
from spark_jobs.admission import Row
from spark_jobs.batch_start import BatchStart, Begun, last_begun
from spark_jobs.dimensions import NONE
from spark_jobs.feature_store import OnlineStates
from spark_jobs.schemas import RAW
from spark_jobs.stream import MicroBatches
from tests.spark.lakes import NOON, impression, rows_of, to_line


class Killed(Exception):
    """The writer died."""


class Dying(MicroBatches):
    """Dies after the append of the events and before that of the quarantine."""

    def _append_rows(self, rows: list[Row], schema: StructType, table: str, seq: int) -> None:
        if table == "quarantine":
            raise Killed
        super()._append_rows(rows, schema, table, seq)


def wider(clicks: UseCase) -> UseCase:
    """The use case whose contract takes `share` as well."""
    fields = dict(clicks.contract.fields)
    kinds = (*fields["event_type"].values, "share")
    fields["event_type"] = replace(fields["event_type"], values=kinds)
    return replace(clicks, contract=replace(clicks.contract, fields=fields))


def raw(spark: SparkSession, *names: str) -> DataFrame:
    """Impressions and, where the name says so, shares."""
    events = [
        impression(name, NOON, event_type="share" if "share" in name else "impression")
        for name in names
    ]
    rows = [(names[0], i, to_line(event)) for i, event in enumerate(events, 1)]
    return spark.createDataFrame(rows, RAW)


def stand(spark: SparkSession, lake: Lake) -> list[tuple[str, str, int]]:
    """(table, origin, line) of every row."""
    return [
        (table, row["origin"], row["line"])
        for table in ("events", "duplicates", "quarantine")
        for row in rows_of(spark, getattr(lake, table))
    ]


@pytest.mark.parametrize("mended", [True, False])
def test_a_batch_that_died_between_its_tables_leaves_each_record_in_one_whatever_was_declared_since(
    spark: SparkSession, clicks: UseCase, lake: Lake, mended: bool
) -> None:
    """The record that one contract refuses and the other takes came to its end, or had not yet."""
    before, after = (clicks, wider(clicks)) if mended else (wider(clicks), clicks)
    first = raw(spark, "one", "share one")
    with pytest.raises(Killed):
        Dying(spark, before, lake).process(first, 0)
    batches = MicroBatches(spark, after, lake)
    batches.process(first, 0)
    shares = "quarantine" if mended else "events"
    expected = [("events", "one", 1), (shares, "one", 2)]
    assert expected == stand(spark, lake)
    batches.process(raw(spark, "two", "share two"), 1)
    shares = "events" if mended else "quarantine"
    assert {("events", "two", 1), (shares, "two", 2)} == {*stand(spark, lake)} - {*expected}


@pytest.mark.parametrize("name", ["clicks", "world"])
def test_what_a_batch_began_with_is_read_back_whole_under_another_clock_and_contract(
    clicks: UseCase, lake: Lake, name: str
) -> None:
    wide = load_use_case(name)
    narrow = replace(wide.contract, max_future_skew=1, retention=2)
    dimensions = {dimension.name: NONE for dimension in wide.declared.dimensions}
    declared = {d.name: [d.key, *d.attributes] for d in wide.declared.dimensions}
    begun = Begun(3, NOON, narrow, dimensions, declared)
    assert begun == BatchStart(replace(wide, contract=narrow), lake, ReplayClock(NOON)).of(3)
    later = BatchStart(wide, lake, ReplayClock(NOON + HOUR))
    assert begun == later.of(3)
    assert (
        Begun(4, NOON + HOUR, wide.contract, dimensions, declared)
        == later.of(4)
        == last_begun(lake)
    )


def test_a_batch_that_began_with_another_type_of_field_is_refused_by_name(
    clicks: UseCase, lake: Lake
) -> None:
    fields = dict(clicks.contract.fields)
    fields["position"] = replace(fields["position"], type="string")
    BatchStart(clicks, lake, SystemClock()).of(7)
    changed = replace(clicks, contract=replace(clicks.contract, fields=fields))
    with pytest.raises(ValueError, match=r"begun\.json: batch 7 began .* position as integer: run"):
        BatchStart(changed, lake, SystemClock()).of(7)
    assert 8 == BatchStart(changed, lake, SystemClock()).of(8).seq


def test_a_batch_that_began_with_another_dimension_is_refused_by_name(lake: Lake) -> None:
    world = load_use_case("world")
    BatchStart(world, lake, SystemClock()).of(7)
    changed = replace(world, declared=replace(world.declared, dimensions=()))
    told = r"begun\.json: batch 7 began with the dimensions .*'item': .'item_id', 'category'"
    with pytest.raises(ValueError, match=told):
        BatchStart(changed, lake, SystemClock()).of(7)
    assert 8 == BatchStart(changed, lake, SystemClock()).of(8).seq


def test_a_record_of_the_future_is_refused_whatever_its_producer_had_kafka_stamp(
    spark: SparkSession, clicks: UseCase, lake: Lake
) -> None:
    """Its event time would be the as-of of every key in the batch."""
    future = SystemClock().now() + 365 * DAY
    said = [
        (impression("stamped", future), future),
        ({**impression("unstamped", future), "arrived_at": None}, None),
        (impression("good", NOON), future),
        (impression("past", NOON), NOON),
    ]
    rows = [("shop/0", i, to_line(event), stamp) for i, (event, stamp) in enumerate(said)]
    rows.append(("http-1.jsonl", 9, to_line(impression("collected", NOON + HOUR)), None))
    batch = spark.createDataFrame(rows, f"{RAW}, arrived bigint")
    MicroBatches(spark, clicks, lake).process(batch, 0)
    refused = rows_of(spark, lake.quarantine)
    assert [0, 1] == [row["line"] for row in refused]
    named = [row["reasons"].split(":")[0] for row in refused]
    assert ["arrived_at", "event_time"] == named
    assert {"good", "past", "collected"} == {row["event_id"] for row in rows_of(spark, lake.events)}
    assert NOON + HOUR == OnlineStates(clicks, lake).read(clicks.groups[0], ["u1"])["u1"].as_of
