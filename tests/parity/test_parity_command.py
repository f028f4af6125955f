"""`headrace parity` on the first 2 000 rows of the embedded log: certificate, table, failure."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from dagster_project.commands import parity
from data_contracts.lake import Lake
from data_contracts.results import read_result
from data_contracts.use_case import load_use_case
from data_contracts.views import digests_of
from serving.features import FeatureReader, Keys, Served
from tests.parity.mutants import MUTANTS
from training.code_version import code_version

CLICKS = load_use_case("clicks")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert CLICKS.log is not None
    path = tmp_path_factory.mktemp("log") / "obd.parquet"
    pq.write_table(pq.read_table(CLICKS.log).slice(0, 2_000), path)
    return path


def run(root: Path, log: Path, *more: str) -> Result:
    app = typer.Typer()
    parity.register(app)
    command = ["--root", str(root), "--log", str(log), "--schedules", "2", "--spark-schedules", "0"]
    return CliRunner().invoke(app, [*command, *more], env={"COLUMNS": "400"})


def test_the_certificate_is_printed_and_kept(log: Path, tmp_path: Path) -> None:
    said = run(tmp_path, log, "--json")
    assert 0 == said.exit_code, said.output
    found = json.loads(said.stdout)
    assert (2, 0, 0, True) == tuple(
        found[name] for name in ("schedules", "spark_schedules", "mismatches", "holds")
    )
    assert (digests_of(CLICKS.groups), code_version()) == (found["feature_digests"], found["code"])
    assert found == read_result(Lake(tmp_path.resolve(), "clicks"), "parity_certificate")


@pytest.mark.full
def test_through_spark_the_store_is_read_as_a_server_reads_it(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    now = FeatureReader.read_now

    def noted(reader: FeatureReader, keys: Keys, q: int) -> Served:
        read.append(q)
        return now(reader, keys, q)

    monkeypatch.setattr(FeatureReader, "read_now", noted)
    said = run(tmp_path, log, "--json", "--schedules", "1", "--spark-schedules", "1")
    found = json.loads(said.stdout)
    assert (1, 0, True) == tuple(found[n] for n in ("spark_schedules", "mismatches", "holds"))
    assert len(read) > 20


def test_what_was_seen_is_shown_beside_what_a_whole_proof_needs(log: Path, tmp_path: Path) -> None:
    said = run(tmp_path, log)
    assert 0 == said.exit_code, said.output
    for row in (
        "(30% needed at 200 schedules)",
        "(50% needed at",
        "(500 needed at",
        "a value is one",
    ):
        assert row in said.stdout


def test_a_mismatch_is_a_failure_of_one_line_with_its_events(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS["tail_off_by_a_hop"](monkeypatch)
    said = run(tmp_path, log, "--schedules", "40")
    assert 1 == said.exit_code
    (line,) = (each for each in said.stderr.splitlines() if "the oracle says" in each)
    assert "whose tiles are [" in line
    kept = read_result(Lake(tmp_path.resolve(), "clicks"), "parity_certificate")
    assert (False, 1) == (kept["holds"], kept["mismatches"])
