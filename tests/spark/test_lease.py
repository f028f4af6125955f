"""One writer at a time; the kernel takes the lease back from a writer that was killed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spark_jobs.lease import writer_lease

HOLDER = """
import sys
from pathlib import Path
from spark_jobs.lease import writer_lease
with writer_lease(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease of `tmp_path` until it is killed."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "held\n" == process.stdout.readline()
        yield process
        process.kill()


def refused(folder: Path) -> str:
    with pytest.raises(RuntimeError) as error, writer_lease(folder):
        pass
    return str(error.value)


def test_a_second_writer_is_refused_at_once_and_told_who_holds_the_lease(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    expected = f"{tmp_path}/writer.lock: the lease is held by process {holder.pid}"
    assert refused(tmp_path).startswith(expected)
    assert refused(tmp_path).startswith(expected), "a refusal must leave the holder's name"


def test_a_killed_writer_holds_no_lease(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    with writer_lease(tmp_path):
        assert "held by process" in refused(tmp_path)


def test_the_lease_is_free_again_after_an_error_in_its_holder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writer_lease(tmp_path):
        raise KeyError
    with writer_lease(tmp_path):
        pass
