"""One writer at a time; the kernel takes the lease back from a writer that was killed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from socket import gethostname

import psutil
import pytest

from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.feature_store import OnlineStates
from spark_jobs.lake_lease import RowsHeld, lake_lease
from spark_jobs.lease import writer_lease
from tests.redis_server import RedisServer
from tests.spark.lakes import NOON, impression, to_file

HOLDER = """
import sys
from pathlib import Path
from spark_jobs.lease import writer_lease
try:
    with writer_lease(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
except RuntimeError as error:
    print(error, flush=True)
"""
HEADRACE = Path(sys.executable).parent / "headrace"


def started(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lease until its input ends, or says why it cannot."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease of `tmp_path` until it is killed."""
    with started(tmp_path) as process:
        assert "held" == said(process)
        yield process
        process.kill()


def refused(folder: Path) -> str:
    def ask() -> None:
        with pytest.raises(RuntimeError) as error, writer_lease(folder):
            pass
        found.append(str(error.value))

    found: list[str] = []
    with ThreadPoolExecutor(1) as other_thread:
        other_thread.submit(ask).result()
    return found[0]


def test_a_second_writer_is_refused_and_told_who_holds_the_lease_where_and_since_when(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    lock = tmp_path.resolve() / "writer.lock"
    expected = f"{lock}: the lease is held by process {holder.pid} on {gethostname()} (-c "
    found = refused(tmp_path)
    assert found.startswith(expected)
    assert str(tmp_path) in found, "its command"
    assert f" since {time.gmtime().tm_year}-" in found
    assert expected == refused(tmp_path)[: len(expected)], "a refusal must leave the holder's name"


def test_of_writers_that_start_at_one_moment_one_writes_and_the_others_name_it(
    tmp_path: Path,
) -> None:
    dead = f"process 4194305 on {gethostname()} (headrace ingest) since long ago"
    (tmp_path / "writer.lock").write_text(dead)
    several = [started(tmp_path) for _ in range(6)]
    answers = [said(process) for process in several]
    (first,) = (p for p, answer in zip(several, answers, strict=True) if answer == "held")
    others = [answer for answer in answers if answer != "held"]
    for process in several:
        process.communicate()
    assert [f"process {first.pid} "] * 5 == [
        answer[answer.index("process") :][: len(f"process {first.pid} ")] for answer in others
    ]


def told_soon(*command: str, **others: str) -> str:
    """What a command says that fails within ten seconds of its own start; `others`: what else is in
    its environment."""
    with subprocess.Popen(
        [str(HEADRACE), *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **others},
    ) as process:  # fmt: skip
        begun = psutil.Process(process.pid).create_time()
        _, said = process.communicate()
    assert time.time() - begun < 10
    assert 1 == process.returncode, said
    return said


def test_commands_that_write_are_refused_before_they_start_or_land_anything(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path.resolve(), "clicks")
    file = to_file(tmp_path / "log.jsonl", [impression("e", NOON)])
    commands = (
        ["ingest", str(file)], ["ingest", "--follow", str(file)], ["quarantine", "replay"],
        ["replay"], ["batch", "load", "prices", "--file", str(file)],
    )  # fmt: skip
    with started(lake.stream) as process:
        assert "held" == said(process)
        told = [told_soon(*command, "--root", str(tmp_path)) for command in commands]
        process.communicate()
    for answer in told:
        assert f"the lease is held by process {process.pid} on " in answer
    assert not (tmp_path / "spark.log").exists(), "no JVM"
    assert not lake.landing.exists()


LAKE_HOLDER = """
import sys
from pathlib import Path
from data_contracts.lake import Lake
from data_contracts.redis_address import RedisAddress
from spark_jobs.lake_lease import lake_lease
with lake_lease(Lake(Path(sys.argv[1]), "clicks", redis=RedisAddress.parse(sys.argv[2]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_of_a_root_and_its_copy_on_one_redis_one_writes_and_the_other_names_it(
    tmp_path: Path, redis_server: RedisServer, clicks: UseCase
) -> None:
    address = redis_server.address
    one = Lake(tmp_path / "one", clicks.name, redis=address)
    OnlineStates(clicks, one).reach(1)
    shutil.copytree(one.root, tmp_path / "copy")
    copied = Lake(tmp_path / "copy", clicks.name, redis=address)
    file = to_file(tmp_path / "log.jsonl", [impression("e", NOON)])
    command = [sys.executable, "-c", LAKE_HOLDER, str(one.root), address.url]
    ingest = ["ingest", str(file), "--root", str(copied.root)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert "held" == said(process)
        holder = f"the lease of these rows is held by process {process.pid} on {gethostname()}"
        assert holder in told_soon(*ingest, HEADRACE_REDIS=address.url)
        assert not copied.landing.exists()
        process.kill()
    with lake_lease(copied):
        OnlineStates(clicks, copied).reach(2)


def test_a_writer_whose_rows_another_folder_took_while_redis_was_away_writes_nothing_more(
    tmp_path: Path, own_redis: RedisServer, clicks: UseCase
) -> None:
    one = Lake(tmp_path / "one", clicks.name, redis=own_redis.address)
    online = OnlineStates(clicks, one)
    online.reach(1)
    shutil.copytree(one.root, tmp_path / "copy")
    command = [sys.executable, "-c", LAKE_HOLDER, str(tmp_path / "copy"), own_redis.address.url]
    with lake_lease(one):
        own_redis.kill()
        own_redis.start()
        online = OnlineStates(clicks, one)
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert "held" == said(process)
            for write in (lambda: online.reach(2), lambda: online.drop(clicks.groups[0])):
                with pytest.raises(RowsHeld) as error:
                    write()
                assert f"process {process.pid} on " in str(error.value)
            process.communicate()
        online.reach(2)


def test_a_refused_copy_disturbs_no_writer_and_another_database_is_free(
    tmp_path: Path, redis_server: RedisServer, clicks: UseCase
) -> None:
    one = Lake(tmp_path / "one", clicks.name, redis=redis_server.address)
    online = OnlineStates(clicks, one)
    online.reach(1)
    shutil.copytree(one.root, tmp_path / "copy")
    copied = replace(one, root=tmp_path / "copy")
    with lake_lease(one), ThreadPoolExecutor(1) as other_thread:
        refusals = other_thread.submit(lambda: [held(copied) for _ in range(50)])
        writes = 0
        while not refusals.done() or not writes:
            online.reach(writes := writes + 1)
        assert [True] * 50 == refusals.result()
        elsewhere = replace(redis_server.address, db=redis_server.address.db + 1)
        assert not other_thread.submit(held, replace(copied, redis=elsewhere)).result()


def held(lake: Lake) -> bool:
    try:
        with lake_lease(lake):
            return False
    except RowsHeld:
        return True


def test_a_killed_writer_holds_no_lease(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    with writer_lease(tmp_path):
        assert "held by process" in refused(tmp_path)


def test_the_holder_of_a_lease_may_ask_for_it_again(tmp_path: Path) -> None:
    with writer_lease(tmp_path):
        with writer_lease(tmp_path):
            pass
        assert "held by process" in refused(tmp_path), "and keeps it until it ends itself"


def test_the_lease_is_free_again_after_an_error_in_its_holder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writer_lease(tmp_path):
        raise KeyError
    with writer_lease(tmp_path):
        pass
