"""Events that lack an entity's key belong to no key of it, in every engine."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import DAY, HOUR, MINUTE, day_of
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.oracle import oracle_features
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.views import digests_of
from serving.features import NO_STATE, FeatureReader
from spark_jobs.materialize import materialize
from spark_jobs.stream import ingest_available
from spark_jobs.tables import load
from spark_jobs.tiles import backfill_tiles
from spark_jobs.training_set import build_training_set
from tests.spark.lakes import NOON, click, impression, land_at, to_file, typed

USERS, ITEMS = ("u0", "u1", None), ("i0", None)


@dataclass(frozen=True)
class Lacking:
    use_case: UseCase
    lake: Lake
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def lacking(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lacking:
    """A lake of two batches in which every pair of a known and a missing key occurs."""
    clicks = load_use_case("clicks")
    optional = {
        name: replace(clicks.contract.fields[name], required=False) for name in clicks.entities
    }
    contract = replace(clicks.contract, fields={**clicks.contract.fields, **optional})
    use_case = replace(clicks, contract=contract)
    folder = tmp_path_factory.mktemp("lacking")
    lake = Lake(folder / "root", use_case.name)
    log: list[dict[str, Any]] = []
    for i in range(36):
        keys = {"user_id": USERS[i % 3], "item_id": ITEMS[i % 2]}
        at = NOON + i * MINUTE
        log.append({**impression(f"e{i}", at, position=i % 4 + 1), **keys})
        if i % 5 == 0:
            log.append({**click(f"e{i}", at + MINUTE // 2), **keys})
    log.append(click("e1", NOON + 4 * HOUR))
    for number, part in enumerate((log[::2], log[1::2])):
        land_at(lake, to_file(folder / f"{number}.jsonl", part))
        ingest_available(spark, use_case, lake)
    return Lacking(use_case, lake, typed(use_case, log))


def expected(lacking: Lacking, group: FeatureGroup, key: str | None, q: int) -> list[float]:
    if key is None:
        return [*group.default_values()]
    return oracle_features(group, lacking.events, key, q)


def served(lacking: Lacking, q: int) -> tuple[list[list[float]], list[list[float]], list[int]]:
    """(served, expected, seqs of the row without keys) of every pair of keys at `q`."""
    rows = [{"user_id": user, "item_id": item} for user in USERS for item in ITEMS]
    reader = FeatureReader(lacking.use_case, lacking.lake, digests_of(lacking.use_case.groups))
    found = reader.read_now(rows, q)
    assert (q, False) == (found.q, found.store_failed)
    wanted = [
        [v for g in lacking.use_case.groups for v in expected(lacking, g, row[g.entity], q)]
        for row in rows
    ]
    return found.values.tolist(), wanted, found.seqs[-1].tolist()


def test_every_event_is_taken_and_no_key_is_made_of_none(
    spark: SparkSession, lacking: Lacking
) -> None:
    assert len(lacking.events) == load(spark, lacking.lake.events).count()
    for q in (NOON + 4 * HOUR + 1, NOON + 5 * HOUR):
        found, wanted, seqs = served(lacking, q)
        assert wanted == found
        assert [NO_STATE, NO_STATE] == seqs
        assert len({tuple(row) for row in found}) > 3


def test_a_training_row_without_a_key_has_the_defaults_of_its_group(
    spark: SparkSession, lacking: Lacking
) -> None:
    build_training_set(spark, lacking.use_case, lacking.lake)
    table = load(spark, lacking.lake.training_set).withColumn("q", sf.unix_micros("q"))
    rows = {row["event_id"]: row for row in table.toArrow().to_pylist()}
    assert {f"e{i}" for i in range(36)} == set(rows)
    for name, row in rows.items():
        assert int(int(name[1:]) % 5 == 0) == row["label"]
        for group in lacking.use_case.groups:
            wanted = expected(lacking, group, row[group.entity], row["q"])
            assert wanted == [row[feature] for feature in group.feature_names], name


def test_the_rebuild_from_tiles_agrees_and_has_no_key_of_none(
    spark: SparkSession, lacking: Lacking
) -> None:
    backfill_tiles(
        spark,
        lacking.use_case,
        lacking.lake,
        lacking.use_case.groups,
        day_of(0),
        day_of(NOON + DAY),
    )
    found = materialize(spark, lacking.use_case, lacking.lake)
    known = len({*USERS, "u1"} - {None}) + len({*ITEMS, "i1"} - {None})
    assert (known, 0) == (found.keys, found.mismatches)
    features, wanted, _ = served(lacking, NOON + 5 * HOUR)
    assert wanted == features
