import os
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / ".ci" / "setup"
MEND = "sudo apt-get install openjdk-17-jre-headless"


def first_line(java_home: Path) -> str:
    """What set-up prints first, and only, where Java is not what is needed."""
    told = subprocess.run(
        ["bash", SETUP],
        env=os.environ | {"JAVA_HOME": str(java_home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert 1 == told.returncode
    (line,) = told.stdout.splitlines()
    return line


def test_without_java_the_first_line_says_so_and_how_to_install_it(tmp_path: Path) -> None:
    assert f"Java 17 or newer is missing ({tmp_path}/bin/java): {MEND}" == first_line(tmp_path)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ('openjdk version "11.0.22" 2024-01-16', "Java 11 was found"),
        ('java version "1.8.0_402"', "Java 8 was found"),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "16" 2021-03-16', "Java 16 was"),
        ("no version at all", "Java of an unknown version was found"),
    ],
)
def test_an_older_java_is_named_with_its_version_and_the_mend(
    tmp_path: Path, told: str, found: str
) -> None:
    java = tmp_path / "a jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{told}\nEND\n")
    java.chmod(0o755)
    line = first_line(java.parents[1])
    assert line.startswith(found)
    assert MEND in line
