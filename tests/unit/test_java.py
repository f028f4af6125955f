"""One Java for set-up, doctor and Spark: JAVA_HOME's, else the PATH's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spark_jobs.java import INSTALL, java_command

HEADRACE = Path(sys.executable).parent / "headrace"


@pytest.fixture
def java_home(tmp_path: Path) -> Path:
    """A folder as JAVA_HOME names it whose java is a link to this machine's."""
    home = tmp_path / "a jdk"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").symlink_to(java_command())
    return home


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A PATH without java."""
    path = tmp_path / "bare"
    path.mkdir()
    return str(path)


def doctor(**environment: str) -> dict[str, object]:
    told = subprocess.run(
        [HEADRACE, "doctor", "--json"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(told.stdout)["java"]


def test_java_home_is_taken_where_it_is_set(java_home: Path, bare: str) -> None:
    wanted = str(java_home / "bin" / "java")
    assert wanted == java_command({"JAVA_HOME": str(java_home), "PATH": bare})
    assert wanted == java_command({"JAVA_HOME": str(java_home), "PATH": os.environ["PATH"]})


def test_an_empty_java_home_is_none(java_home: Path) -> None:
    path = str(java_home / "bin")
    assert f"{path}/java" == java_command({"JAVA_HOME": "", "PATH": path})


def test_a_missing_java_is_named_with_its_mend(tmp_path: Path, bare: str) -> None:
    with pytest.raises(FileNotFoundError) as nowhere:
        java_command({"PATH": bare})
    assert f"Java is missing (java): {INSTALL}" == str(nowhere.value)
    with pytest.raises(FileNotFoundError) as wrong_home:
        java_command({"JAVA_HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    assert f"Java is missing ({tmp_path}/bin/java): {INSTALL} and unset JAVA_HOME" == str(
        wrong_home.value
    )


def test_the_doctor_runs_the_java_of_java_home(java_home: Path, bare: str) -> None:
    found = doctor(JAVA_HOME=str(java_home), PATH=bare)
    assert found["ok"] is True
    assert f"({java_home}/bin/java)" in str(found["found"])


def test_the_doctor_names_a_java_home_without_java(tmp_path: Path) -> None:
    found = doctor(JAVA_HOME=str(tmp_path))
    assert (False, True) == (found["ok"], f"{tmp_path}/bin/java" in str(found["found"]))


def test_ivy_runs_with_the_java_of_java_home(
    java_home: Path, bare: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spark_jobs import jars

    told = tmp_path / "told"
    java = java_home / "bin" / "java"
    java.unlink()
    java.write_text(f"#!{shutil.which('bash')}\necho \"$2\" >'{told}'\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(java_home))
    monkeypatch.setenv("PATH", bare)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(RuntimeError, match="Ivy could not resolve it"):
        jars.resolve_jars()
    assert Path(told.read_text().strip()).name.startswith("ivy-")
