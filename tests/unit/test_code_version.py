"""A version says which code and which libraries made it."""

import subprocess
from importlib.metadata import version
from pathlib import Path

from training.code_version import code_version, environment, environment_digest


def git(folder: Path, *command: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    done = subprocess.run(
        ("git", *who, *command), cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_checkout_says_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    alone = {"package": version("headrace")}
    assert alone == code_version(tmp_path)
    git(tmp_path, "init", "-q")
    assert alone == code_version(tmp_path)
    (tmp_path / "a.py").write_text("a = 1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert {**alone, "commit": commit, "dirty": "false"} == code_version(tmp_path)
    (tmp_path / "a.py").write_text("a = 2")
    assert {**alone, "commit": commit, "dirty": "true"} == code_version(tmp_path)
    installed = tmp_path / "lib"
    installed.mkdir()
    assert alone == code_version(installed)


def test_an_environment_names_every_library_that_is_asked_for() -> None:
    found = environment()
    names = ("torch", "lightgbm", "deltalake", "mlflow", "pyspark", "ray", "feast", "optuna")
    assert {name: version(name) for name in names}.items() <= found.items()
    assert environment_digest(found) != environment_digest({**found, "torch": "0"})
