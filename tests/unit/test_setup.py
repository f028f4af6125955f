import hashlib
import http.server
import io
import os
import platform
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from spark_jobs.java import java_command

SETUP = Path(__file__).parents[2] / ".ci" / "setup"
MEND = "sudo apt-get install openjdk-17-jre-headless"

TOOLS = ("bash", "cat", "dirname", "flock", "ln", "mkdir", "sed", "sha256sum")
UV = '#!/bin/sh\necho "$@" >uv-said\nmkdir -p .venv/bin\nln -s "{}" .venv/bin/python\n'
"""A uv that makes an environment of this Python."""


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


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose packages are none and whose jars are there."""
    clone = tmp_path / "a clone"
    shutil.copytree(SETUP.parent, clone / ".ci")
    for name in ("uv.lock", "pyproject.toml", ".python-version"):
        (clone / name).touch()
    (clone / "spark_jobs").mkdir()
    (clone / "spark_jobs" / "jars.py").touch()
    return clone


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH without uv and pip, with a Debian python3 that lacks python3-venv."""
    path = tmp_path / "bin"
    path.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, f"{name}: not on the PATH"
        (path / name).symlink_to(found)
    (path / "java").symlink_to(java_command())
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "ensurepip.py").write_text("raise ImportError('not installed')\n")
    python = path / "python3"
    python.write_text(
        f"#!/bin/sh\nPYTHONPATH='{tmp_path}/lacking' exec '{sys.executable}' -S \"$@\"\n"
    )
    python.chmod(0o755)
    return path


def wheel(version: str, machine: str = platform.machine(), program: str = "") -> tuple[str, bytes]:
    """(file name, bytes) of a wheel that holds `program` as uv."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"uv-{version}.data/scripts/uv", program)
    return f"uv-{version}-py3-none-manylinux_2_17_{machine}.whl", data.getvalue()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, folder) of a package index with an old, the newest, a yanked and a foreign uv."""
    folder = tmp_path / "index"
    (folder / "simple" / "uv").mkdir(parents=True)
    wheels = {
        "": [
            wheel("0.9.30"),
            wheel("0.10.2", program=UV.format(sys.executable)),
            wheel("9.0", "riscv128"),
        ],
        " data-yanked=''": [wheel("0.11.0")],
    }
    links: list[str] = []
    for mark, each in wheels.items():
        for name, data in each:
            (folder / name).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            links.append(f"<a href='../../{name}#sha256={digest}'{mark}>{name}</a>")
    (folder / "simple" / "uv" / "index.html").write_text("<br>".join(links))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/simple", folder
        server.shutdown()


def set_up(clone: Path, bare: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A run of set-up by a user with an empty home."""
    bash = shutil.which("bash")
    assert bash
    home = {"HOME": str(clone.parent), "PATH": str(bare)}
    return subprocess.run(
        [bash, clone / ".ci" / "setup"],
        env=home | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_without_uv_and_venv_the_newest_uv_comes_from_the_index(
    clone: Path, bare: Path, index: tuple[str, Path]
) -> None:
    done = set_up(clone, bare, PIP_INDEX_URL=index[0])
    assert (0, "") == (done.returncode, done.stderr)
    assert "sync --frozen --compile-bytecode\n" == (clone / "uv-said").read_text()
    assert "uv" in os.listdir(clone.parent / ".cache" / "headrace" / "uv" / "bin")


def test_the_index_of_pip_s_configuration_file_is_taken(
    clone: Path, bare: Path, index: tuple[str, Path]
) -> None:
    config = clone.parent / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text(f"[global]\nindex-url = {index[0]}\n")
    done = set_up(clone, bare)
    assert (0, "") == (done.returncode, done.stderr)


def test_a_wheel_that_is_not_what_the_index_says_is_refused(
    clone: Path, bare: Path, index: tuple[str, Path]
) -> None:
    (changed,) = index[1].glob("uv-0.10.2-*")
    changed.write_bytes(wheel("0.10.2", program="echo stolen")[1])
    done = set_up(clone, bare, PIP_INDEX_URL=index[0])
    assert 1 == done.returncode
    assert "its sha256 is not the" in done.stderr
    assert not (clone.parent / ".cache" / "headrace" / "uv").exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/simple", "http://me:secret@127.0.0.1:9/"])
def test_where_no_index_answers_the_last_line_is_the_mend(
    clone: Path, bare: Path, address: str
) -> None:
    done = set_up(clone, bare, PIP_INDEX_URL=address)
    assert 1 == done.returncode
    why, mend = done.stderr.splitlines()
    assert why.startswith("uv could not be fetched from the package index: ")
    assert mend.endswith("sudo apt-get install python3-venv")
    assert "secret" not in done.stderr
