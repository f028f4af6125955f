import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.predictions import SUFFIX, PredictionLog, prediction_ids, read_log

RECORDS: list[dict[str, Any]] = [
    {"request_id": f"r{i}", "scores": [i / 8, 0.5], "name": "käthe"} for i in range(3)
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    writer = PredictionLog(tmp_path / "prediction_log", "replica", "boot")
    for record in RECORDS:
        writer.append(record)
    writer.close()
    return writer.path


def numbered(count: int) -> list[dict[str, Any]]:
    return [record | {"n": n} for n, record in enumerate(RECORDS[:count])]


def test_a_log_gives_back_every_record_in_order(log: Path) -> None:
    reading = read_log(log)
    assert f"replica-boot{SUFFIX}" == log.name
    assert (numbered(3), 0, 0) == (reading.records, reading.torn_bytes, reading.gaps)


def test_a_log_torn_at_any_byte_gives_back_every_whole_record(log: Path) -> None:
    data = log.read_bytes()
    whole = 0
    for length in range(len(data) + 1):
        log.write_bytes(data[:length])
        reading = read_log(log)
        if not reading.torn_bytes:
            whole = length
        assert numbered(len(reading.records)) == reading.records
        assert (length - whole, 0) == (reading.torn_bytes, reading.gaps)
    assert len(data) == whole


def test_a_damaged_byte_anywhere_is_never_taken_for_a_torn_tail(log: Path) -> None:
    data = log.read_bytes()
    for at in range(len(data)):
        for bit in (0x01, 0x80):
            log.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
            with pytest.raises(ValueError, match="fails its checksum"):
                read_log(log)


def test_a_tail_of_zeros_is_torn_as_one_that_is_cut_there(log: Path) -> None:
    data = log.read_bytes()
    for length in range(len(data) + 1):
        log.write_bytes(data[:length])
        expected = read_log(log)
        log.write_bytes(data[:length] + b"\x00" * (len(data) - length + 64))
        assert expected.records == read_log(log).records


def test_zeros_before_a_record_are_damage(log: Path) -> None:
    data = log.read_bytes()
    for at in (0, 3, len(data) - 20):
        log.write_bytes(data[:at] + b"\x00" * 8 + data[at + 8 :] + b"\x00" * 64)
        with pytest.raises(ValueError, match="fails its checksum"):
            read_log(log)


def test_an_empty_log_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / f"empty{SUFFIX}"
    path.touch()
    reading = read_log(path)
    assert ([], 0, 0) == (reading.records, reading.torn_bytes, reading.gaps)


@given(lost=st.sets(st.integers(0, 18)))
def test_gaps_are_counted_exactly_up_to_the_last_record(
    tmp_path_factory: pytest.TempPathFactory, lost: set[int]
) -> None:
    writer = PredictionLog(tmp_path_factory.mktemp("log"), "replica", "boot")
    frames: list[bytes] = []
    end = 0
    for i in range(20):
        writer.append({"i": i})
        data = writer.path.read_bytes()
        frames.append(data[end:])
        end = len(data)
    writer.close()
    writer.path.write_bytes(b"".join(f for i, f in enumerate(frames) if i not in lost))
    reading = read_log(writer.path)
    assert [i for i in range(20) if i not in lost] == [record["i"] for record in reading.records]
    assert len(lost) == reading.gaps


@contextmanager
def small_disk() -> Iterator[None]:
    """Files of this process end at 100 bytes: a longer write is cut short, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_record_that_does_not_fit_leaves_a_gap_and_no_torn_bytes(tmp_path: Path) -> None:
    writer = PredictionLog(tmp_path, "replica", "boot")
    writer.append({"i": 0})
    with small_disk(), pytest.raises(OSError, match="did not fit: free disk space"):
        writer.append({"i": "x" * 200})
    writer.append({"i": 2})
    writer.close()
    reading = read_log(writer.path)
    assert [{"i": 0, "n": 0}, {"i": 2, "n": 2}] == reading.records
    assert (0, 1) == (reading.torn_bytes, reading.gaps)


def test_a_record_cannot_name_its_own_number(tmp_path: Path) -> None:
    writer = PredictionLog(tmp_path, "replica", "boot")
    writer.append({"n": 99})
    writer.close()
    reading = read_log(writer.path)
    assert ([{"n": 0}], 0) == (reading.records, reading.gaps)


def test_a_boot_that_has_a_log_already_is_refused(log: Path) -> None:
    with pytest.raises(FileExistsError):
        PredictionLog(log.parent, "replica", "boot")


def test_the_same_request_to_the_same_version_is_the_same_prediction_and_nothing_else_is() -> None:
    both = prediction_ids("clicks", "1", "r1", ["ann", "bob"])
    assert both == prediction_ids("clicks", "1", "r1", ["bob", "ann"])[::-1]
    others = [
        ("clicks", "1", "r1", ["ann", "ann"]),
        ("clicks", "1", "r2", ["ann"]),
        ("fraud", "1", "r1", ["ann"]),
        ("clicks", "1", "r", ["1ann"]),
        ("clicks", "2", "r1", ["ann"]),
        ("clicks", "11", "r", ["ann"]),
    ]
    ids = [name for other in others for name in prediction_ids(*other)]
    off_policy = prediction_ids("clicks", "1", "r1", ["ann"], off_policy=True)
    assert 9 == len({*both, *ids, *off_policy}) == len([*both, *ids[1:], *off_policy])
