"""`headrace ingest --follow` as a user runs it: fresh within seconds, ended by Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from data_contracts.clock import SECOND
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.views import digests_of
from serving.features import FeatureReader
from tests.e2e.sessions import left_of_session
from tests.spark.lakes import NOON, impression, to_file, to_line

HEADRACE = Path(sys.executable).parent / "headrace"
FAILED, INTERRUPTED = 1, 130


@pytest.fixture(scope="module")
def clicks() -> UseCase:
    return load_use_case("clicks")


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command over the root `tmp_path`, killed after the test if it still runs."""
    with subprocess.Popen(
        [str(HEADRACE), "ingest", "--follow", "--root", str(tmp_path)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def say(process: subprocess.Popen[str], text: str) -> str:
    """All that the process says on standard error up to a line that holds `text`."""
    said = ""
    assert process.stderr is not None
    for line in process.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended and never said {text!r}: {said}")


@pytest.mark.full
def test_what_lands_is_readable_at_once_and_ctrl_c_leaves_nothing_behind(
    follower: subprocess.Popen[str], clicks: UseCase, tmp_path: Path
) -> None:
    lake = Lake(tmp_path, clicks.name)
    say(follower, "0 batches, 0 events, lag 0 records")
    events = [impression(f"e{i}", NOON + i * SECOND) for i in range(3)]
    with open(lake.landing / "http-1.jsonl", "ab") as log:
        log.write(to_line(events[0]) + b"\n" + to_line(events[1])[:20])
        log.flush()
        say(follower, " batches, 1 events, lag 0 records")
        log.write(to_line(events[1])[20:] + b"\n")
        log.flush()
        say(follower, " batches, 2 events, lag 0 records")
    seen = DeltaTable(lake.events).to_pyarrow_table(columns=["event_id", "seq"]).to_pylist()
    seqs = {row["event_id"]: row["seq"] for row in seen}
    # Spark may begin with a batch of nothing, before the first line has landed.
    assert {"e0", "e1"} == set(seqs) and 1 <= seqs["e0"] <= 2 and seqs["e0"] + 1 == seqs["e1"]
    reader = FeatureReader(clicks, lake, digests_of(clicks.groups))
    served = reader.read_now([{"user_id": "u1", "item_id": "i1"}], NOON + 5 * SECOND)
    shown = clicks.feature_names.index("user_impressions_1h")
    assert (2.0, False) == (served.values[0][shown], served.store_failed)

    second = subprocess.run(
        [str(HEADRACE), "ingest", "--follow", "--root", str(tmp_path), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert FAILED == second.returncode
    assert f"writer.lock: the lease is held by process {follower.pid}" in second.stderr
    assert 1 == len(second.stderr.splitlines())

    os.killpg(follower.pid, signal.SIGINT)
    said = say(follower, "headrace: interrupted")
    assert INTERRUPTED == follower.wait()
    assert follower.stderr is not None
    assert "Traceback" not in said + follower.stderr.read()
    assert [] == left_of_session(follower.pid)
    last = to_file(tmp_path / "last.jsonl", [events[1], events[2]])
    done = subprocess.run(
        [str(HEADRACE), "ingest", str(last), "--root", str(tmp_path), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert (1, 1) == (found["added"]["events"], found["added"]["duplicates"])
    assert (4, 3, True) == tuple(found["conservation"][k] for k in ("records", "events", "holds"))
    assert "waiting" not in found


@pytest.mark.full
def test_each_line_of_a_simulated_stream_says_so(tmp_path: Path) -> None:
    with subprocess.Popen(
        [str(HEADRACE), "ingest", "--follow", "--use-case", "world", "--json", "--root",
         str(tmp_path)],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline())
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert (True, 0, 0) == tuple(said[name] for name in ("simulated", "batches", "lag"))
