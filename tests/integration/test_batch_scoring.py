"""`headrace score`: a table's rows get what the server answered for the same rows and times."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.scoring import score_rows
from data_contracts.bundle import LOGIT_TOLERANCE
from data_contracts.clock import HOUR, MINUTE, SECOND, format_time
from data_contracts.lake import Lake
from data_contracts.predictions import read_log
from data_contracts.use_case import load_use_case
from serving.app import build_app
from serving.auth import create_key
from spark_jobs.engine import engine, open_graph
from spark_jobs.scoring import score_table
from spark_jobs.stream import ingest_available
from tests.integration.asgi import Client
from tests.integration.world import as_role, export, patient, register
from tests.spark.lakes import NOON, click, impression, land_at, to_file

CLICKS = load_use_case("clicks")
LOG = [
    *(impression(f"e{i}", NOON + i * MINUTE, f"u{i % 3}", f"i{i % 4}") for i in range(40)),
    *(click(f"e{i}", NOON + i * MINUTE + SECOND, f"u{i % 3}", f"i{i % 4}") for i in (3, 8, 20)),
]
ASKED = [
    (NOON + HOUR, "u0", [{"item_id": "i1", "position": 1}, {"item_id": "i2", "affinity": 0.5}]),
    (NOON + 2 * HOUR, "u1", [{"item_id": f"i{i}", "position": 1 + i % 3} for i in range(7)]),
    (NOON + 30 * HOUR, "nobody", [{"item_id": "nothing"}]),
]


def logit(scores: list[float]) -> np.ndarray:
    p = np.array(scores)
    return np.log(p / (1 - p))


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows with every input of the use case, and their times."""
    kinds = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64()}
    schema = [(name, kinds[CLICKS.contract.fields[name].type]) for name in CLICKS.inputs]
    return pa.Table.from_pylist(rows, pa.schema([*schema, ("at", pa.timestamp("us", "UTC"))]))


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("scored")
    lake = Lake(folder / "root", CLICKS.name)
    land_at(lake, to_file(folder / "log.jsonl", LOG))
    ingest_available(spark, CLICKS, lake)
    register(CLICKS, lake, folder / "export")
    return lake


@pytest.fixture(scope="module")
def records(lake: Lake) -> list[dict[str, Any]]:
    """What the server logged of `ASKED`."""
    key = as_role(create_key(lake.keys, ["predict", "operate"], "test"))
    settings = patient(lake.root, use_case="clicks", clock="replay")
    with Client(build_app(settings)) as client:
        for n, (q, user, candidates) in enumerate(ASKED):
            body = {
                "request_id": f"r{n}",
                "event_time": format_time(q),
                "user_id": user,
                "candidates": candidates,
            }
            assert 200 == client.post("/clicks/v1/predict", json=body, headers=key).status_code
    (log,) = lake.prediction_log.iterdir()
    return read_log(log).records


def score(lake: Lake, table: Path, out: Path, version: str = "champion") -> dict[str, Any]:
    return score_rows(Deployment("clicks", lake.root), table, "at", version, out)


def stored(out: Path) -> list[dict[str, Any]]:
    return DeltaTable(out).to_pyarrow_table().to_pylist()


def test_a_table_gets_the_scores_that_the_server_gave_for_the_same_rows(
    spark: SparkSession, lake: Lake, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    rows, served = [], {}
    for record in records:
        for row, value in zip(record["inputs"], record["scores"], strict=True):
            rows.append({**row, "at": record["q"]})
            served[record["q"], row["item_id"]] = value
    write_deltalake(tmp_path / "rows", table_of(rows))
    found = score(lake, tmp_path / "rows", tmp_path / "out")
    assert (len(rows), 0) == (found["scored"], found["refused"])
    got = stored(tmp_path / "out")
    keys = [(round(row["at"].timestamp() * 1e6), row["item_id"]) for row in got]
    assert sorted(served) == sorted(keys)
    gaps = np.abs(logit([row["score"] for row in got]) - logit([served[key] for key in keys]))
    assert gaps.max() <= LOGIT_TOLERANCE
    assert len({row["score"] for row in got}) > 5
    assert {"1"} == {row["model_version"] for row in got}
    before = DeltaTable(tmp_path / "out")
    said = json.loads(before.history(1)[0]["userMetadata"])
    assert (records[0]["bundle"], records[0]["definitions"], 0, "1") == tuple(
        said[name] for name in ("bundle", "definitions", "rows_version", "version")
    )
    score(lake, tmp_path / "rows", tmp_path / "out", "1")
    assert len(rows) == len(stored(tmp_path / "out"))
    assert before.version() + 1 == DeltaTable(tmp_path / "out").version()


def test_what_the_server_refuses_has_no_score_but_its_reason(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    sound = {"user_id": "u1", "item_id": "i1", "position": 1, "at": NOON + HOUR}
    wrong = [
        ({"user_id": None}, "user_id: required"),
        ({"at": None}, "at: required"),
        ({"position": 0, "affinity": float("nan")},
         "position: 0 is below 1; affinity: nan is not finite or beyond 2^53"),
    ]  # fmt: skip
    rows = table_of([sound, *({**sound, **change} for change, _ in wrong)])
    pq.write_table(rows, tmp_path / "rows.parquet")
    found = score(lake, tmp_path / "rows.parquet", tmp_path / "out")
    assert (1, 3) == (found["scored"], found["refused"])
    got = stored(tmp_path / "out")
    assert {None, *(reason for _, reason in wrong)} == {row["refused"] for row in got}
    assert [row["refused"] is None for row in got] == [row["score"] is not None for row in got]


def test_what_cannot_be_scored_is_told_in_a_line_and_leaves_no_table(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", tmp_path / "rows.parquet"
    rows = table_of([{"user_id": "u1", "item_id": "i1", "affinity": 5.0, "at": NOON + HOUR}])
    pq.write_table(rows.drop_columns(["affinity"]), path)
    with pytest.raises(ValueError, match="no column 'affinity': it is needed, as number"):
        score(lake, path, out)
    pq.write_table(rows.append_column("score", pa.array([0.5])), path)
    with pytest.raises(ValueError, match=r"columns \['score'\] have names that are added"):
        score(lake, path, out)
    pq.write_table(rows, path)
    with pytest.raises(ValueError, match="no such alias: give a number or one of champion"):
        score(lake, path, out, "shadow")
    with pytest.raises(ValueError, match="exists and holds no scores: name another folder"):
        score(lake, path, lake.events)
    picky = export(CLICKS, tmp_path / "picky", most=4.0)
    graph = open_graph(tmp_path / "picky", picky.digest())
    with pytest.raises(ValueError, match=r"rows.parquet: model.onnx: gave scores that are not in"):
        score_table(spark, CLICKS, lake, graph, "2", path, "at", out)
    assert not DeltaTable.is_deltatable(str(out))
    assert 1 == score(lake, path, out)["scored"]


def test_a_process_has_one_session_for_a_bundle(tmp_path: Path) -> None:
    digest = export(CLICKS, tmp_path / "bundle").digest()
    first, again = (open_graph(tmp_path / "bundle", digest) for _ in range(2))
    assert engine(first) is engine(again)
