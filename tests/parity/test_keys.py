"""Integer keys, pairs, empty and look-alike texts: the same key in every engine and store."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.catalogue import explain_features
from dagster_project.stages.parity import as_served
from data_contracts.clock import HOUR, MINUTE, format_time
from data_contracts.features import FeatureGroup
from data_contracts.keys import key_in
from data_contracts.lake import Lake
from data_contracts.online import state_name, view_name
from data_contracts.oracle import oracle_features
from data_contracts.predictions import PredictionLog
from data_contracts.states import decode
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of, joint_digest
from serving.features import NO_STATE, FeatureReader
from spark_jobs.dataset import build_dataset
from spark_jobs.materialize import materialize
from spark_jobs.outcomes import collect_outcomes
from spark_jobs.parity import served_parity
from spark_jobs.proof import RealParts, prove, read_log
from spark_jobs.stream import ingest_available
from spark_jobs.tables import load
from spark_jobs.tiles import backfill_tiles
from spark_jobs.training_set import build_training_set
from tests.parity.shop import ITEMS, USERS, log, shop
from tests.spark.lakes import NOON, land_at, to_file, typed

Q = NOON + 4 * HOUR + MINUTE
ROWS: list[dict[str, Any]] = [
    {"user_id": user, "item_id": item} for user, item in product([*USERS, "new"], [*ITEMS, 77])
]


@dataclass(frozen=True)
class Shop:
    use_case: UseCase
    lake: Lake
    events: list[dict[str, Any]]

    def expected(self, row: dict[str, Any], q: int) -> list[float]:
        """The oracle's features of a row of keys."""
        return [v for group in self.use_case.groups for v in self.of_group(group, row, q)]

    def of_group(self, group: FeatureGroup, row: dict[str, Any], q: int) -> list[float]:
        key = key_in(group.key_fields, row)
        if key is None:
            return [*group.default_values()]
        return oracle_features(group, self.events, key, q)


@pytest.fixture(scope="module")
def ingested(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The log in two batches."""
    use_case, folder = shop(), tmp_path_factory.mktemp("shop")
    lake = Lake(folder / "root", use_case.name)
    for number, part in enumerate((log()[::2], log()[1::2])):
        land_at(lake, to_file(folder / f"{number}.jsonl", part))
        ingest_available(spark, use_case, lake)
    return Shop(use_case, lake, typed(use_case, log()))


def test_all_engines_agree_over_schedules_of_pairs_and_integers() -> None:
    use_case = shop()
    found = prove(use_case, read_log(use_case, log()), 8, seed=4)
    assert found.holds, found.outcome.mismatches[0].told()
    assert all(found.outcome.non_default[name] for name in use_case.feature_names)


@pytest.mark.full
def test_they_agree_through_the_real_parts(spark: SparkSession, tmp_path: Path) -> None:
    use_case = shop()
    found = prove(
        use_case, read_log(use_case, log()), 3, 4, RealParts(spark, tmp_path, 3, 0, as_served)
    )
    assert found.holds, found.outcome.mismatches[0].told()


def test_the_server_reads_every_key_and_none_where_a_part_is_missing(ingested: Shop) -> None:
    assert len(log()) == len(ingested.events)
    reader = FeatureReader(ingested.use_case, ingested.lake, digests_of(ingested.use_case.groups))
    for q in (Q - HOUR, Q):
        found = reader.read_now(ROWS, q)
        assert (False, 0) == (found.store_failed, reader.failures)
        assert [ingested.expected(row, found.q) for row in ROWS] == found.values.tolist()
    known = {key_in(("user_id", "item_id"), event) for event in ingested.events}
    held = [key_in(("user_id", "item_id"), row) in known - {None} for row in ROWS]
    assert held == [bool(seq != NO_STATE) for seq in found.seqs[:, 2]]


def test_a_feast_client_passes_both_fields_of_a_pair(ingested: Shop) -> None:
    group, store = ingested.use_case.groups[2], FeatureStore(repo_path=str(ingested.lake.online))
    answer = store.get_online_features(
        features=[f"{view_name(group)}:{state_name(group)}"],
        entity_rows=[{"user_id": "1:u", "item_id": -7}, {"user_id": "1", "item_id": 12}],
    ).to_dict()
    first, second = answer[state_name(group)]
    assert decode(group, first).seq > 0
    assert second is None


@pytest.mark.full
def test_training_rows_hold_the_oracles_values(spark: SparkSession, ingested: Shop) -> None:
    use_case, lake = ingested.use_case, ingested.lake
    build_training_set(spark, use_case, lake)
    names = list(use_case.feature_names)
    rows = load(spark, lake.training_set).toArrow().to_pylist()
    assert len(rows) > 50
    for row in rows:
        q = int(row["q"].timestamp()) * 1_000_000
        assert ingested.expected(row, q) == [row[name] for name in names], row["event_id"]


def test_own_labels_get_the_oracles_values(
    spark: SparkSession, ingested: Shop, tmp_path: Path
) -> None:
    use_case, lake = ingested.use_case, ingested.lake
    names = list(use_case.feature_names)
    times = pa.array([Q] * len(ROWS), pa.timestamp("us", "UTC"))
    table = pa.Table.from_pylist(ROWS).append_column("event_time", times)
    pq.write_table(table, tmp_path / "labels.parquet")
    build_dataset(spark, use_case, lake, tmp_path / "labels.parquet", tmp_path / "out")
    found = pq.read_table(tmp_path / "out").to_pylist()
    assert len(ROWS) == len(found)
    for row in found:
        assert ingested.expected(row, Q) == [row[name] for name in names]


@pytest.mark.full
def test_a_served_pair_is_recomputed_and_finds_its_label(
    spark: SparkSession, ingested: Shop
) -> None:
    use_case, lake = ingested.use_case, ingested.lake
    reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
    shown = [e for e in ingested.events if e["event_type"] == "impression"][:40]
    record = PredictionLog(lake.prediction_log, "replica", "boot")
    for event in shown:
        keys = [{name: event[name] for name in use_case.entities}]
        found = reader.read_now(keys, event["event_time"])
        record.append(
            {"request_id": event["request_id"], "prediction_ids": [event["event_id"]],
             "arrival": found.q, "q": found.q, "inputs": keys, "scores": [0.5], "model": "m",
             "feature_names": use_case.feature_names, "features": found.values.tolist(),
             "seqs": found.seqs.tolist(), "version": 1, "store_failed": False,
             "definitions": joint_digest(digests_of(use_case.groups)),
             "view_of": reader.reading.view_of()}
        )  # fmt: skip
    record.close()
    collected = collect_outcomes(spark, use_case, lake)
    assert len(shown) == collected.predictions == collected.outcomes + collected.late
    parity = served_parity(spark, use_case, lake)
    assert 0 == parity.mismatches
    assert parity.non_default > 0


def test_a_pair_is_explained_by_both_fields(spark: SparkSession, ingested: Shop) -> None:
    deployment = Deployment()
    vars(deployment).update(use_case=ingested.use_case, lake=ingested.lake, spark=spark)
    group, row = ingested.use_case.groups[2], {"user_id": "1:u", "item_id": -7}
    found = explain_features(deployment, "user_id=1:u,item_id=-7", format_time(Q))
    assert ["both"] == list(found)
    values = dict(zip(group.feature_names, ingested.of_group(group, row, Q), strict=True))
    assert ("3:1:u-7", values) == (found["both"]["key"], found["both"]["values"])
    stored = found["both"]["stored"]
    assert (format_time(Q), values, values) == (stored["asked"], stored["online"], stored["tiles"])
    (state,) = stored["states"].values()
    (tile,) = found["both"]["windows"]["lifetime"]["tiles"]
    assert tile["holds"] in [each["holds"] for each in state["tiles"]]
    assert [values["both_shown_lifetime"]] == tile["holds"]["shown"]
    (((_, _, last),),) = tile["holds"]["last"]
    assert values["both_last_lifetime"] == last
    alone = explain_features(deployment, "item_id=-7", format_time(Q))
    assert ["item"] == list(alone)
    with pytest.raises(ValueError, match="name one of user_id=… or item_id=… or user_id=…,item"):
        explain_features(deployment, "visitor=u1", format_time(Q))


def test_tiles_rebuild_what_the_stream_wrote_for_every_key(
    spark: SparkSession, ingested: Shop
) -> None:
    backfill_tiles(spark, ingested.use_case, ingested.lake, ingested.use_case.groups)
    found = materialize(spark, ingested.use_case, ingested.lake)
    keys = {
        (group.name, key)
        for group in ingested.use_case.groups
        for event in ingested.events
        if (key := key_in(group.key_fields, event)) is not None
    }
    assert (len(keys), 0) == (found.keys, found.mismatches)
