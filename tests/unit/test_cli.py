"""The command: one line for an error, 2 for wrong use, 1 for a failed job, JSON for machines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_project.command import run
from dagster_project.deployment import Deployment

HEADRACE = Path(sys.executable).parent / "headrace"


def headrace(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(HEADRACE), *arguments], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["frobnicate"], "frobnicate"),
        (["train", "--use-case", "nope"], "nope"),
        (["ingest", "missing.jsonl"], "missing.jsonl"),
        (["demo", "--log", "missing"], "missing"),
        (["replay", "--url", "http://127.0.0.1:1"], "HEADRACE_KEY"),
        (["demo", "--step", "soon"], "soon"),
        (["serve", "--replicas", "2-8"], "2-8"),
        (["serve", "--replicas", "9..2"], "9"),
        (["train", "--search", "3", "--resume"], "--resume"),
        (["features", "explain", "--entity", "user_id=u1", "--at", "yesterday"], "yesterday"),
        (["keys", "create", "shop", "--role", "boss"], "boss"),
        (["world", "--out", "README.md"], "README.md"),
        (["world", "--out", "new", "--events", "0"], "events 0"),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_line_that_names_it(arguments: list[str], named: str):
    done = headrace(*arguments)
    assert (2, "") == (done.returncode, done.stdout)
    assert 1 == len(done.stderr.strip().splitlines()), done.stderr
    assert named in done.stderr


def test_a_failed_job_is_exit_code_1_and_one_line_with_the_mend(tmp_path: Path):
    done = headrace("report", "--json", "--root", str(tmp_path))
    assert 1 == done.returncode
    assert 1 == len(done.stderr.strip().splitlines())
    assert "headrace train" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path):
    done = headrace("report", "--json", "--debug", "--root", str(tmp_path))
    assert 1 == done.returncode
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(("use_case", "simulated"), [("world", True), ("clicks", False)])
def test_whatever_is_shown_of_a_simulated_use_case_says_so(
    use_case: str, simulated: bool, tmp_path: Path
):
    asked = ("features", "list", "--use-case", use_case, "--root", str(tmp_path))
    said = headrace(*asked).stdout.splitlines()
    assert simulated == (said[0] == "world (simulated): of no real user or item")
    assert ({"simulated": True} if simulated else {}) == {
        name: value for name, value in json.loads(headrace(*asked, "--json").stdout).items()
        if name == "simulated"
    }  # fmt: skip


def test_what_a_command_has_shown_itself_is_followed_by_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run(lambda deployment: {}, Deployment("world", tmp_path), as_json=True, debug=False)
    assert "" == capsys.readouterr().out


def test_the_doctor_answers_in_json():
    done = headrace("doctor", "--json")
    assert 0 == done.returncode, done.stdout
    assert {True} == {check["ok"] for check in json.loads(done.stdout).values()}


def test_a_world_is_written_and_said_to_be_simulated(tmp_path: Path):
    out = tmp_path / "shop"
    done = headrace("world", "--events", "1000", "--seed", "3", "--out", str(out), "--json")
    found = json.loads(done.stdout)
    assert (0, True, 1000) == (done.returncode, found["simulated"], found["records"])
    assert json.loads((out / "world.json").read_text())["log"] == found["log"]
    shown = headrace("world", "--events", "1000", "--seed", "3", "--out", f"{out}-2")
    assert "simulated click world" in shown.stdout
    assert (0, "--use-case world" in shown.stdout) == (shown.returncode, True)
