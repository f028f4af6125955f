"""`headrace demo` as a user runs it: interrupted, then run again to its end, on a real log."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tritonclient.http as triton

from data_contracts.use_case import load_use_case
from serving.running import running
from tests.e2e.sessions import left_of_session
from tests.integration.world import patient

HEADRACE = Path(sys.executable).parent / "headrace"
INTERRUPTED = 130


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two days of the embedded log."""
    sample = load_use_case("clicks").log
    assert sample is not None
    rows = pq.read_table(sample)
    early = pc.less(rows["timestamp"], datetime(2019, 11, 26, tzinfo=UTC))
    path = tmp_path_factory.mktemp("log") / "two_days.parquet"
    pq.write_table(rows.filter(early), path)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a root with spaces")


@pytest.fixture(scope="module")
def report(root: Path, log: Path) -> dict:
    """The report of a demo that an impatient user interrupted in mid-ingest first."""
    command = [str(HEADRACE), "demo", "--root", str(root), "--log", str(log), "--step", "4h"]
    said = ""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as broken_off:  # fmt: skip
        assert broken_off.stderr is not None
        for line in broken_off.stderr:
            said += line
            if "→ ingest" in line or "interrupted" in line:
                os.killpg(broken_off.pid, signal.SIGINT)
    assert INTERRUPTED == broken_off.returncode, said
    assert "Traceback" not in said
    assert [] == left_of_session(broken_off.pid)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr[-3000:]
    return json.loads((root / "report.json").read_text())


def test_every_record_is_conserved(report: dict):
    counts = report["stages"]["conservation"]
    assert counts["holds"]
    assert counts["records"] == counts["events"] > 5_000
    assert 0 == counts["duplicates"] == counts["conflicts"] == counts["quarantined"]
    assert 0 == counts["waiting"], "every record that landed was consumed"


def test_stream_backfill_and_served_features_are_equal(report: dict):
    state, served = report["stages"]["online_state"], report["stages"]["outcomes"]["parity"]
    assert (0, 0) == (state["mismatches"], served["mismatches"])
    assert state["compared"] > 10_000
    assert served["compared"] > 10_000
    assert served["non_default"] > served["compared"] * 0.3


def test_every_impression_of_the_held_out_day_was_asked_and_answered(report: dict):
    served, outcomes = report["stages"]["predictions"], report["stages"]["outcomes"]
    assert ["2019-11-25"] == served["days"]
    assert 0 == served["errors"] == served["refused"] == outcomes["gaps"]
    assert served["requests"] == outcomes["predictions"] > 2_000


def test_the_model_is_champion_or_the_data_could_not_tell(report: dict):
    model = report["stages"]["model"]
    assert "champion" == model["alias"]
    assert model["decision"]["verdict"] in ("pass", "cannot judge")


def test_the_trained_model_answers_tritons_defaults_and_a_rollout_is_told(report: dict, root: Path):
    rows = [{"user_id": "u1", "item_id": str(i), "position": 1 + i % 3} for i in range(5)]
    columns = {"user_id": np.object_, "item_id": np.object_, "position": np.int64}
    with running(patient(root, engine="plain", auth=False)) as server:
        body = {"request_id": "e2e", "candidates": rows}
        asked = httpx.post(f"{server.url}/clicks/v1/predict", json=body, timeout=30).json()
        client = triton.InferenceServerClient(f"{server.url.removeprefix('http://')}/clicks")
        tensors = []
        for name, kind in columns.items():
            values = np.array([row[name] for row in rows], kind)
            datatype = "INT64" if kind is np.int64 else "BYTES"
            tensors.append(triton.InferInput(name, [len(rows)], datatype))
            tensors[-1].set_data_from_numpy(values)
        found = client.infer("clicks", tensors, request_id="e2e")
        client.close()
        command = [str(HEADRACE), "rollout", "status", "--root", str(root), "--json"]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
    version = report["stages"]["outcomes"]["last_version"]
    assert version == found.get_response()["model_version"] == asked["version"]
    expected = [each["score"] for each in asked["predictions"]]
    assert expected == pytest.approx(found.as_numpy("score").tolist(), abs=1e-4)
    assert all(0 < score < 1 for score in expected)
    plan = json.loads(told.stdout)
    assert ("steady", version) == (plan["stage"], plan["champion"])


def command(root: Path, *words: str) -> dict:
    """What `headrace … --json` says."""
    told = [str(HEADRACE), *words, "--root", str(root), "--json"]
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr[-3000:]
    return json.loads(done.stdout)


def versions(url: str) -> set[str]:
    """Which versions answer forty users."""
    rows = [{"item_id": str(i), "position": 1 + i % 3} for i in range(3)]
    bodies = [
        {"request_id": f"{time.monotonic_ns()}-{user}", "user_id": f"u{user}", "candidates": rows}
        for user in range(40)
    ]
    with httpx.Client(base_url=url, timeout=30) as client:
        answers = [client.post("/clicks/v1/predict", json=body) for body in bodies]
    assert {200} == {answer.status_code for answer in answers}
    return {answer.json()["version"] for answer in answers}


def answered_by(url: str, expected: set[str]) -> None:
    """Wait until these versions answer, and no other."""
    end, pause = time.monotonic() + 60, threading.Event()
    while (found := versions(url)) != expected:
        assert time.monotonic() < end, found
        pause.wait(0.5)


@pytest.mark.full
def test_a_version_that_was_trained_is_released_step_by_step_and_rolled_back(
    report: dict, root: Path
):
    old = report["stages"]["outcomes"]["last_version"]
    trained = command(root, "train", "--model", "logistic")
    new = trained["version"]
    assert "challenger" == trained["alias"]
    why = ("--override", "--reason", "a test of the release")
    with running(patient(root, engine="plain", auth=False, timeout_ms=10_000)) as server:
        answered_by(server.url, {old})
        command(root, "rollout", "start", new, *why)
        answered_by(server.url, {old})
        while (plan := command(root, "rollout", "status"))["stage"] != "steady":
            assert (old, new) == (plan["champion"], plan["candidate"])
            answered_by(server.url, {old, new} if "50" in plan["share"] else versions(server.url))
            command(root, "rollout", "advance", *why)
        answered_by(server.url, {new})
        command(root, "rollout", "rollback", "--reason", "the test is over")
        answered_by(server.url, {old})
    stages = [each["stage"] for each in command(root, "rollout", "history")["plans"]]
    assert ["steady", "shadow", *["canary"] * 4, "steady", "steady"] == stages
    assert [] == command(root, "rollout", "replay")["faults"]
    assert [] == command(root, "models", "verify")["faults"]


def test_the_pages_are_there(report: dict, root: Path):
    assert "Everything checked holds." in (root / "report.html").read_text()
    assert Path(report["stages"]["drift"]["html"]).is_file()
    assert report["sound"]
