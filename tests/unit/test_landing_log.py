import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.landing import LandingLog, Position


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_append_says_where_it_ends(tmp_path: Path) -> None:
    async def scenario() -> list[Position]:
        log = LandingLog(tmp_path, "r", "b")
        found = [await log.append([b"{1}", b"{2}"]), await log.append([b"{3}"])]
        await log.close()
        return found

    assert [Position("http-r-b-0.jsonl", 8), Position("http-r-b-0.jsonl", 12)] == asyncio.run(
        scenario()
    )
    assert b"{1}\n{2}\n{3}\n" == (tmp_path / "http-r-b-0.jsonl").read_bytes()


def test_appends_at_the_same_time_all_land_whole_and_each_knows_its_end(tmp_path: Path) -> None:
    async def scenario() -> list[Position]:
        log = LandingLog(tmp_path, "r", "b")
        lines = [f"{{{i}}}".encode() for i in range(200)]
        found = await asyncio.gather(*(log.append([line]) for line in lines))
        await log.close()
        return found

    found = asyncio.run(scenario())
    data = (tmp_path / "http-r-b-0.jsonl").read_bytes()
    said = [data[: position.offset].splitlines()[-1] for position in found]
    assert [f"{{{i}}}".encode() for i in range(200)] == said


def test_a_write_that_does_not_fit_leaves_nothing_and_the_next_starts_a_file(
    tmp_path: Path,
) -> None:
    async def scenario() -> Position:
        log = LandingLog(tmp_path, "r", "b")
        await log.append([b"{good}"])
        with files_of_at_most(10), pytest.raises(OSError, match=r"large|written"):
            await log.append([b"{too long}"])
        position = await log.append([b"{again}"])
        await log.close()
        return position

    assert Position("http-r-b-1.jsonl", 8) == asyncio.run(scenario())
    assert b"{good}\n" == (tmp_path / "http-r-b-0.jsonl").read_bytes()
    assert b"{again}\n" == (tmp_path / "http-r-b-1.jsonl").read_bytes()


def test_a_file_of_another_process_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "http-r-b-0.jsonl").write_bytes(b"theirs\n")
    with pytest.raises(FileExistsError):
        LandingLog(tmp_path, "r", "b")
