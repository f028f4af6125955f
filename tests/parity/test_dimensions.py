"""Attributes as of a time: the same key in every engine, whatever is loaded while batches die."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.events import ingest_files
from dagster_project.stages.parity import as_served
from data_contracts import dimension as dimensions
from data_contracts.clock import HOUR, MINUTE
from data_contracts.dimension import Dimension, DimensionRow
from data_contracts.features import FeatureGroup
from data_contracts.keys import text_of
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.predictions import PredictionLog
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of, joint_digest
from data_contracts.windows import Lifetime, Sliding
from serving.dimensions import DimensionReader
from serving.features import FeatureReader
from spark_jobs import rehearsal
from spark_jobs.attributes import without_attribute
from spark_jobs.comparison import Known, rehearse
from spark_jobs.dataset import build_dataset
from spark_jobs.dimensions import append_rows
from spark_jobs.outcomes import collect_outcomes
from spark_jobs.parity import served_parity
from spark_jobs.proof import RealParts, prove, read_log
from spark_jobs.rehearsal import Record
from spark_jobs.schedules import Batch, Schedule
from spark_jobs.spark_rehearsal import SparkRehearsal
from spark_jobs.stream import ingest_available
from spark_jobs.tables import load
from spark_jobs.training_set import build_training_set
from tests.parity.shop import COUNTS, log, shop
from tests.spark.lakes import NOON, impression, land_at, to_file, to_line

ITEM = Dimension("item", key="item_id", attributes=("policy",))
PAIR = FeatureGroup(
    name="taste",
    entity=("user_id", "policy"),
    aggregates=COUNTS,
    windows=(Sliding("10m"), Sliding("1h"), Lifetime()),
)
ROWS = [
    DimensionRow(0, NOON - HOUR, ("a",)),
    DimensionRow(0, NOON + 3 * MINUTE, ("b",)),
    DimensionRow(-7, NOON - HOUR, ("b",)),
]
LATER = DimensionRow(0, NOON, ("c",))
"""Holds for what happens in the first three minutes; loaded while a batch of them is dead."""


def stocked() -> UseCase:
    """The shop with a pair of user and what its items' dimension says of them."""
    use_case = shop((*shop().groups[:1], PAIR))
    fields = dict(use_case.contract.fields)
    fields["policy"] = replace(fields["policy"], values=(), required=False, required_for=())
    contract = replace(use_case.contract, fields=fields)
    declared = replace(use_case.declared, dimensions=(ITEM,))
    return replace(use_case, contract=contract, declared=declared)


def alone(use_case: UseCase) -> UseCase:
    """With the pair as its only group."""
    return replace(use_case, declared=replace(use_case.declared, groups=(PAIR,)))


def held_policies(spark: SparkSession, lake: SparkRehearsal) -> list[str]:
    """Of the events in the table, in order of their ids."""
    events = load(spark, lake.lake.events).orderBy("event_id").toArrow()
    return events["policy"].to_pylist()


def unsaid() -> list[dict[str, Any]]:
    """The shop's log, of whose events few say their policy."""
    every = [{k: v for k, v in event.items() if k != "policy"} for event in log()]
    return [{**e, "policy": "own"} if i % 9 == 0 else e for i, e in enumerate(every)]


def records(events: list[dict[str, Any]], file: str) -> tuple[Record, ...]:
    lines = enumerate(map(to_line, events), 1)
    return tuple(Record(file, number, line) for number, line in lines)


def dying() -> Schedule:
    """Rows are loaded between a batch's death and its rerun, and before it comes once more."""
    first = [impression(f"a{i}", NOON + i * MINUTE, "u1", 0) for i in range(5)]
    more = [impression(f"b{i}", NOON + i * MINUTE + 1, "u1", (0, -7)[i % 2]) for i in range(5)]
    events = [{k: v for k, v in e.items() if k != "policy"} for e in (*first, *more)]
    loads = tuple(("item", row) for row in ROWS)
    batches = (
        Batch(records(events[:5], "one"), killed="between", loads=loads, amid=(("item", LATER),)),
        Batch(records(events[5:], "two"), again=True),
    )
    keys = {("user_id",): ("u1",), PAIR.key_fields: (("u1", "a"), ("u1", "b"), ("u1", "c"))}
    return Schedule(batches, keys, (), (NOON + 9 * MINUTE,), "taste_shown_1h")


def test_engines_agree_while_rows_are_loaded_between_and_amid_batches() -> None:
    use_case = stocked()
    found = prove(use_case, read_log(use_case, unsaid()), 24, seed=4)
    assert found.holds, found.outcome.mismatches[0].told()
    assert all(found.outcome.non_default[name] for name in use_case.feature_names)


def test_a_batch_that_comes_again_finds_what_it_began_with() -> None:
    outcome = rehearse(stocked(), dying())
    assert [] == [mismatch.told() for mismatch in outcome.mismatches]
    assert outcome.non_default["taste_shown_1h"] > 0


def test_a_batch_that_died_in_spark_comes_back_with_the_keys_that_it_began_with(
    spark: SparkSession, tmp_path: Path
) -> None:
    use_case, batch = alone(stocked()), dying().batches[0]
    nowhere = {**impression("z", NOON, "u1", 7), "policy": None}
    batch = replace(batch, records=(*batch.records, *records([nowhere], "unknown item")))
    known, lake = Known(use_case), SparkRehearsal(spark, use_case, tmp_path, as_served)
    known.load(batch.loads)
    known.add(batch.records)
    lake.load(batch.loads)
    lake.take(batch.records, "between", batch.amid)
    assert ["a", "a", "a", "b", "b", None] == held_policies(spark, lake)
    assert {"policy": 1} == without_attribute(use_case, load(spark, lake.lake.events))
    for key in (("u1", "a"), ("u1", "b"), ("u1", "c")):
        wanted = oracle_features(PAIR, known.events, key, NOON + HOUR)
        assert wanted == lake.served(PAIR, [text_of(key)], NOON + HOUR)[0].tolist()


@pytest.mark.full
def test_through_spark_delta_and_feast_too(spark: SparkSession, tmp_path: Path) -> None:
    use_case = stocked()
    lake = SparkRehearsal(spark, use_case, tmp_path, as_served)
    outcome = rehearse(use_case, dying(), lake, all_engines=False)
    assert [] == [mismatch.told() for mismatch in outcome.mismatches]
    assert outcome.non_default["taste_shown_1h"] > 0
    assert ["a", "a", "a", "b", "b", "c", "b", "c", "b", "b"] == held_policies(spark, lake)


@pytest.mark.full
def test_drawn_schedules_through_the_real_parts(spark: SparkSession, tmp_path: Path) -> None:
    use_case = stocked()
    found = prove(
        use_case, read_log(use_case, unsaid()), 2, 8, RealParts(spark, tmp_path, 2, 0, as_served)
    )
    assert found.holds, found.outcome.mismatches[0].told()


def unpinned(patch: pytest.MonkeyPatch) -> None:
    original = rehearsal.MemoryDimensions.fill

    def fill(self: rehearsal.MemoryDimensions, events: pa.Table, seq: int) -> pa.Table:
        self.begun.clear()
        return original(self, events, seq)

    patch.setattr(rehearsal.MemoryDimensions, "fill", fill)


def from_after_its_time(patch: pytest.MonkeyPatch) -> None:
    original = dimensions.bisect_right
    patch.setattr(dimensions, "bisect_right", lambda times, time: original(times, time - 1))


def as_of_today(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dimensions, "bisect_right", lambda times, time: len(times))


@pytest.mark.parametrize("plant", [unpinned, from_after_its_time, as_of_today])
def test_a_fault_planted_in_the_look_up_is_found(
    plant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_case = stocked()
    events = read_log(use_case, unsaid())
    plant(monkeypatch)
    monkeypatch.setattr(
        "spark_jobs.proof.shrunk", lambda use_case, schedule, mismatch, through: mismatch
    )
    assert prove(use_case, events, 24, seed=3).outcome.mismatches


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The log over items of which two are known."""
    use_case, folder = stocked(), tmp_path_factory.mktemp("stocked")
    lake = Lake(folder / "root", use_case.name)
    append_rows(use_case, lake, ITEM, ROWS)
    land_at(lake, to_file(folder / "log.jsonl", unsaid()))
    ingest_available(spark, use_case, lake)
    return lake


@pytest.mark.full
def test_training_rows_own_labels_and_served_rows_have_the_same_values(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    use_case = stocked()
    events = load(spark, lake.events).toArrow().to_pylist()
    for event in events:
        event["event_time"] = round(event["event_time"].timestamp() * 1e6)
    build_training_set(spark, use_case, lake)
    made_of = {"events": lake.events, "dimension.item": lake.dimensions / "item"}
    newest = DeltaTable(lake.training_set).history(1)[0]
    assert {name: DeltaTable(path).version() for name, path in made_of.items()} == json.loads(
        newest["userMetadata"]
    )["made_of"]
    rows = load(spark, lake.training_set).toArrow().to_pylist()
    names = list(PAIR.feature_names)
    keyed = [r for r in rows if r["user_id"] is not None and r["policy"] is not None]
    assert len(keyed) > 15
    for row in keyed:
        q = round(row["q"].timestamp() * 1e6)
        wanted = oracle_features(PAIR, events, (row["user_id"], row["policy"]), q)
        assert wanted == [row[name] for name in names]

    q = NOON + 4 * HOUR + MINUTE
    asked = [{"user_id": user, "item_id": item} for user in ("u1", "é") for item in (0, -7, 12)]
    given = [("u1", "b"), ("u1", "b"), None, ("é", "b"), ("é", "b"), None]
    wanted = [
        oracle_features(PAIR, events, key, q) if key else [*PAIR.default_values()] for key in given
    ]
    table = pa.Table.from_pylist(asked)
    table = table.append_column("event_time", pa.array([q] * len(asked), pa.timestamp("us", "UTC")))
    pq.write_table(table, tmp_path / "labels.parquet")
    build_dataset(spark, use_case, lake, tmp_path / "labels.parquet", tmp_path / "out")
    found = pq.read_table(tmp_path / "out").to_pylist()
    order = {tuple(row.values()): i for i, row in enumerate(asked)}
    found.sort(key=lambda row: order[row["user_id"], row["item_id"]])
    assert wanted == [[row[name] for name in names] for row in found]
    reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
    full = asyncio.run(DimensionReader(use_case, lake).filled(asked, q))
    assert given == [(r["user_id"], r["policy"]) if r.get("policy") else None for r in full]
    served = reader.read_now([{"policy": None, **row} for row in full], q)
    assert wanted == served.values[:, -len(names) :].tolist()


@pytest.mark.full
def test_an_ingest_counts_the_events_that_lack_an_attribute(
    spark: SparkSession, lake: Lake
) -> None:
    deployment = Deployment()
    vars(deployment).update(use_case=stocked(), lake=lake, spark=spark)
    events = load(spark, lake.events).toArrow().to_pylist()
    lacking = [e for e in events if e["item_id"] is not None and e["policy"] is None]
    assert {"policy": len(lacking)} == ingest_files(deployment, [])["without_attribute"]
    assert {12, 9} == {event["item_id"] for event in lacking}


@pytest.mark.full
def test_a_served_row_is_recomputed_and_finds_its_label_by_the_dimensions_key(
    spark: SparkSession, lake: Lake
) -> None:
    use_case = stocked()
    shown = [e for e in unsaid() if e["event_type"] == "impression" and e["item_id"] == 0][:20]
    dimension = DimensionReader(use_case, lake)
    reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
    record = PredictionLog(lake.prediction_log, "replica", "boot")
    # At another time than the event's, at which the item had another attribute.
    q = NOON - 1
    for event in shown:
        asked = [{"user_id": event["user_id"], "item_id": event["item_id"], "policy": None}]
        rows = asyncio.run(dimension.filled(asked, q))
        found = reader.read_now(rows, q)
        record.append(
            {"request_id": event["request_id"], "prediction_ids": [event["event_id"]],
             "arrival": found.q, "q": found.q, "inputs": rows, "scores": [0.5], "model": "m",
             "feature_names": use_case.feature_names, "features": found.values.tolist(),
             "seqs": found.seqs.tolist(), "version": 1, "store_failed": False,
             "definitions": joint_digest(digests_of(use_case.groups)),
             "view_of": reader.reading.view_of()}
        )  # fmt: skip
    record.close()
    collected = collect_outcomes(spark, use_case, lake)
    assert len(shown) == collected.predictions == collected.outcomes + collected.late
    assert 0 == served_parity(spark, use_case, lake).mismatches
