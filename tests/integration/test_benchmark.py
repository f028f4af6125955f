"""The benchmark at a tiny size: every engine of it computes the same features."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from serving.loader import load, registered_champion
from tests.benchmarks import log, serving_rows, training
from tests.benchmarks.agreement import disagreements
from tests.benchmarks.engines import (
    duckdb_expert,
    duckdb_frames,
    headrace,
    polars_expert,
    polars_join,
    spark_range,
)
from tests.benchmarks.tables import verdicts
from tests.integration.world import build

PEERS = {
    "duckdb_expert": duckdb_expert,
    "duckdb_frames": duckdb_frames,
    "polars_expert": polars_expert,
    "polars_join": polars_join,
    "spark_range": spark_range,
}


def test_all_engines_of_the_benchmark_are_tested_here() -> None:
    assert {*training.ENGINES} == {training.OURS, *PEERS}


@pytest.mark.parametrize(
    "hot", [False, pytest.param(True, marks=pytest.mark.full)], ids=["even", "hot"]
)
def test_all_engines_of_the_benchmark_compute_the_same_features(
    spark: SparkSession, tmp_path: Path, hot: bool
) -> None:
    folder = log.log_folder(tmp_path, 2_000, hot)
    made = log.write_log(folder, 2_000, hot)
    assert made["labels"] > 200
    headrace.training_set(folder, tmp_path / "ours")
    found: dict[str, list[str]] = {}
    for name, peer in PEERS.items():
        peer.training_set(folder, tmp_path / name)
        found[name] = disagreements(tmp_path / "ours", tmp_path / name)
    assert {name: [] for name in PEERS} == found


def test_a_wrong_feature_is_named(tmp_path: Path) -> None:
    folder = log.log_folder(tmp_path, 2_000, hot=False)
    log.write_log(folder, 2_000, hot=False)
    other = log.log_folder(tmp_path, 2_000, hot=True)
    log.write_log(other, 2_000, hot=True)
    for place, out in ((folder, tmp_path / "even"), (other, tmp_path / "hot")):
        polars_expert.training_set(place, out)
    wrong = disagreements(tmp_path / "even", tmp_path / "hot")
    assert any(line.startswith("user_count_1h: ") for line in wrong)


def test_the_ratios_of_the_targets_follow_from_the_medians() -> None:
    def row(engine: str, size: int, seconds: float, log: str = "even") -> dict[str, object]:
        return {"engine": engine, "log": log, "size": size, "median_s": seconds}

    rows = [
        row("headrace", 10, 2.0),
        row("headrace", 10, 3.0, "hot"),
        row("duckdb_frames", 10, 12.0),
        row("headrace", 30, 7.0),
        {"engine": "polars_expert", "log": "even", "size": 10, "gave_up": "more than 12 GiB"},
    ]
    assert [
        "10: DuckDB's range frames / Headrace = 6.00",
        "10: hot / even = 1.50",
        "30: 30 / 10 events = 3.50",
    ] == verdicts(rows)


def test_the_ratios_of_the_servers_are_taken_round_by_round() -> None:
    def rounds(*rates: float) -> list[dict[str, float]]:
        names = ("start_s", "rps_1", "rps", "cpu_ms", "p99_ms", "half_rps", "half_cpu_ms")
        return [
            dict.fromkeys((*names, "half_p50_ms", "half_p99_ms", "errors"), rate) for rate in rates
        ]

    parts = serving_rows.parts_row(
        [
            {"features_ms": 2.0, "kept_features_ms": 1.0, "encoding_ms": 0.5, "model_ms": x}
            for x in (1.0, 3.0, 9.0)
        ]
    )
    assert {
        "features_ms": 2.0, "kept_features_ms": 1.0, "encoding_ms": 0.5, "model_ms": 3.0
    } == parts  # fmt: skip
    rows = [
        serving_rows.row("headrace, plain", rounds(60.0, 20.0, 90.0), parts),
        serving_rows.row("uvicorn, ONNX", rounds(100.0, 50.0, 100.0), parts),
        {"server": "BentoML", "gave_up": "no network"},
    ]
    assert (60.0, [20.0, 90.0], 55.5) == tuple(
        rows[0][name] for name in ("rps", "rps_spread", "rest_ms")
    )
    assert [
        "features_ms = 2.00 (at most 2.5)",
        "rps of headrace, plain / uvicorn, ONNX = 0.60 (at least 0.5)",
        "half_p99_ms of headrace, plain = 60.0 (at most 40)",
    ] == serving_rows.verdicts(rows, parts)


@pytest.mark.full
def test_features_are_measured_as_read_and_as_kept_and_the_store_stays_as_it_was(
    tmp_path: Path,
) -> None:
    world = build(tmp_path / "lake")
    champion = registered_champion(world.use_case, world.lake)
    load(world.use_case, world.lake, champion)
    bodies = tmp_path / "bodies.jsonl"
    items = [{"item_id": f"i{i}", "position": 1} for i in range(20)]
    bodies.write_text(json.dumps({"user_id": "u1", "candidates": items}))
    said = [str(world.root), f"{champion.version}:{champion.digest}", str(bodies), "4"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.servers.parts", *said],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert {*serving_rows.PARTS, "scores"} == {*found}
    assert found["features_ms"] > 1.2 * found["kept_features_ms"] > 0
    with closing(sqlite3.connect(world.lake.online_file)) as store:
        assert (0,) == store.execute("PRAGMA user_version").fetchone()


@pytest.mark.full
def test_the_benchmark_of_the_stream_reads_every_probe_beside_upkeep(tmp_path: Path) -> None:
    sizes = ("--world", "2k", "--commits", "30", "--rates", "100", "--seconds", "5")
    command = [sys.executable, "-m", "tests.benchmarks.features", "--parts", "stream", *sizes]
    subprocess.run([*command, "--out", str(tmp_path)], check=True)
    [row] = json.loads((tmp_path / "stream.json").read_text())["rows"]
    assert (500, 50, 0) == (row["sent"], row["probes"], row["never_read"])
    assert row["upkeeps"] > 0
    assert 0 < row["p50_s"] <= row["p99_s"] <= row["max_s"]
