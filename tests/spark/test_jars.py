"""Spark's extra jars: one cache folder per set of coordinates."""

from pathlib import Path

import pyspark
import pytest

from spark_jobs import jars


def test_the_resolved_jars_hold_delta_and_nothing_that_spark_ships() -> None:
    names = {path.name.rsplit("-", 1)[0] for path in jars.jar_paths()}
    shipped = {p.name.rsplit("-", 1)[0] for p in (Path(pyspark.__file__).parent / "jars").iterdir()}
    assert "delta-spark_4.2_2.13" in names
    assert set() == names & shipped


def test_a_machine_without_the_jars_is_told_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="run `make setup`"):
        jars.jar_paths()


def test_other_coordinates_lie_in_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    before = jars.jar_folder()
    monkeypatch.setattr(jars, "COORDINATES", (*jars.COORDINATES, "org.example:other:1.0"))
    assert before.parent == jars.jar_folder().parent
    assert before != jars.jar_folder()


def test_resolving_again_needs_neither_network_nor_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert jars.jar_folder() == jars.resolve_jars()
