"""Two models on two definitions of their features are served side by side through a late event."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from data_contracts.clock import HOUR, MINUTE, format_time
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.views import digests_of, joint_digest
from serving.auth import create_key
from spark_jobs.dataset import build_dataset
from spark_jobs.materialize import materialize
from spark_jobs.stream import ingest_available
from tests.integration.releases import Release, register_version, released
from tests.integration.world import World, export, register
from tests.spark.lakes import NOON, click, impression, land_at, to_file
from tests.spark.test_two_definitions import changed, expected

CLICKS = load_use_case("clicks")
SIDES = {"1": CLICKS, "2": changed(CLICKS)}
"""Version -> the use case as it was declared when that version was fitted."""
EARLY = [
    *(impression(f"e{i}", NOON + i * MINUTE, "u1", affinity=i / 8) for i in range(6)),
    *(click(f"e{i}", NOON + 10 * MINUTE + i) for i in range(2)),
]
LATE = [impression("late", NOON + 2 * MINUTE, "u1", affinity=2.5), click("late", NOON + 3 * MINUTE)]
Q = NOON + 20 * MINUTE


@pytest.fixture
def release(spark: SparkSession, tmp_path: Path) -> Iterator[Release]:
    """The second version answers half of the units; of each definition the stream keeps a view."""
    lake = Lake(tmp_path / "built", CLICKS.name)
    land_at(lake, to_file(tmp_path / "early.jsonl", EARLY), at=NOON + HOUR)
    ingest_available(spark, CLICKS, lake)
    materialize(spark, SIDES["2"], lake)
    keys = (create_key(lake.keys, ["predict", "operate"], "test") for _ in range(3))
    world = World(lake.root, CLICKS, lake, *keys, register(CLICKS, lake, tmp_path / "one"))
    manifest = export(SIDES["2"], tmp_path / "two", seed=4)
    register_version(world, tmp_path / "two", manifest)
    with released(world, tmp_path / "lake") as release:
        release.canary(5_000)
        yield release


def served(release: Release, version: str, q: int) -> dict[str, Any]:
    """What is logged of a request to a version by its name at `q`."""
    # The clock of a replay stands where the last request with a time was.
    assert 200 == release.predict("u1", "clock", event_time=format_time(q)).status_code
    users, items = (
        {"name": field, "datatype": "BYTES", "shape": [1], "data": [value]}
        for field, value in (("user_id", "u1"), ("item_id", "i1"))
    )
    path = f"/clicks/v2/models/clicks/versions/{version}/infer"
    body = {"id": f"by-name-{version}", "inputs": [users, items]}
    assert 200 == release.client.post(path, json=body, headers=release.key).status_code
    return release.records()[-1]


def trained(
    spark: SparkSession, use_case: UseCase, lake: Lake, q: int, folder: Path
) -> list[float]:
    """The same features as a table of labels gets them."""
    row = pa.Table.from_pylist([{"user_id": "u1", "item_id": "i1"}])
    row = row.append_column("event_time", pa.array([q], pa.timestamp("us", "UTC")))
    folder.mkdir()
    pq.write_table(row, folder / "labels.parquet")
    build_dataset(spark, use_case, lake, folder / "labels.parquet", folder / "out")
    (found,) = pq.read_table(folder / "out").to_pylist()
    return [found[name] for name in use_case.feature_names]


def test_each_of_two_models_is_given_its_own_features_through_a_late_event(
    spark: SparkSession, release: Release, tmp_path: Path
) -> None:
    log, lake, seen = list[dict[str, Any]](EARLY), release.lake, list[list[float]]()
    for q, late in ((Q, []), (Q + 1, LATE)):
        if late:
            land_at(lake, to_file(tmp_path / "late.jsonl", late), at=NOON + HOUR + 1)
            ingest_available(spark, CLICKS, lake)
            log += late
        for version, use_case in SIDES.items():
            record = served(release, version, q)
            assert (version, q, False) == (record["version"], record["q"], record["store_failed"])
            assert joint_digest(digests_of(use_case.groups)) == record["definitions"]
            assert [*use_case.feature_names] == record["feature_names"]
            (features,) = record["features"]
            assert expected(use_case, log, q)[0] == features
            assert trained(spark, use_case, lake, q, tmp_path / f"{version}-{q}") == features
            seen.append(features)
    assert 4 == len({str(features) for features in seen})
