"""What a demo finds under its root: nothing, a shell, an earlier demo, a lake of the user's."""

import subprocess
import sys
from pathlib import Path

import pytest

from dagster_project.demo import MARK, clear, run_demo
from dagster_project.deployment import Deployment
from tests.spark.test_lease import said, started

HEADRACE = Path(sys.executable).parent / "headrace"


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    root = tmp_path / "root"
    root.mkdir()
    return Deployment("clicks", root)


def files(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


@pytest.mark.full
def test_what_refused_commands_left_is_cleared(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    root = str(deployment.root)
    for command in (["ingest", str(tmp_path / "empty.jsonl")], ["materialize"]):
        told = subprocess.run([HEADRACE, *command, "--root", root], capture_output=True, text=True)
        assert 1 == told.returncode, told.stderr
    assert files(deployment.lake.home)
    clear(deployment)
    assert [MARK] == files(deployment.lake.home)


@pytest.mark.parametrize(
    "path",
    ["landing/file-1-ab-log.jsonl", "imported/2019-11-24.jsonl", "events/p.parquet", "notes"],
)
def test_data_that_no_demo_made_is_refused_and_kept(deployment: Deployment, path: str) -> None:
    file = deployment.lake.home / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}\n")
    with pytest.raises(ValueError, match="holds a lake that no demo made"):
        clear(deployment)
    assert [path] == files(deployment.lake.home)


def test_a_log_that_took_no_event_is_no_data(deployment: Deployment) -> None:
    deployment.lake.landing.mkdir(parents=True)
    (deployment.lake.landing / "http-a-b-0.jsonl").touch()
    clear(deployment)
    assert [MARK] == files(deployment.lake.home)


def test_what_a_server_wrote_that_did_not_begin_is_no_data(deployment: Deployment) -> None:
    deployment.lake.server_log.mkdir(parents=True)
    (deployment.lake.server_log / "replica-1.jsonl").write_text("{}\n")
    clear(deployment)
    assert [MARK] == files(deployment.lake.home)


def test_a_demo_empties_no_lake_under_its_writer(deployment: Deployment) -> None:
    clear(deployment)
    with started(deployment.lake.stream) as writer:
        assert "held" == said(writer)
        before = files(deployment.lake.home)
        with pytest.raises(RuntimeError, match=f"the lease is held by process {writer.pid} on"):
            run_demo(deployment)
        assert before == files(deployment.lake.home)
        writer.kill()


def test_the_data_of_an_earlier_demo_is_cleared(deployment: Deployment) -> None:
    clear(deployment)
    deployment.lake.landing.mkdir()
    (deployment.lake.landing / "file-1-ab-log.jsonl").write_text("{}\n")
    clear(deployment)
    assert [MARK] == files(deployment.lake.home)
