"""Who moves the prediction log to a table reads each record once, however it grew meanwhile."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.lake import Lake
from data_contracts.predictions import PredictionLog
from spark_jobs import prediction_log
from spark_jobs.prediction_log import PredictionLogReader, Taken


def answer(i: int) -> dict[str, Any]:
    """Every third by name, every fourth a shadow's copy."""
    if i % 4 == 3:
        return {"shadow": {"i": i}}
    about = {"i": i, "version": i % 2, "arrival": i, "store_failed": i == 0}
    return {**about, "off_policy": True} if i % 3 == 2 else about


def lake_of(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path, "clicks")
    lake.predictions.mkdir(parents=True)
    return lake


def numbers(found: list[dict[str, Any]]) -> list[int]:
    return [(record.get("shadow") or record)["i"] for record in found]


@given(
    rounds=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), max_size=8),
    stretch=st.sampled_from([1, 200, 10_000]),
)
def test_each_record_is_read_once_however_the_files_grow(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[int, int]], stretch: int
) -> None:
    lake = lake_of(tmp_path_factory.mktemp("lake"))
    logs = [PredictionLog(lake.prediction_log, "replica", f"boot{i}") for i in (0, 1)]
    written, read = list[int](), list[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction_log, "STRETCH", stretch)
        for which, count in rounds:
            for _ in range(count):
                logs[which].append(answer(len(written)))
                written.append(len(written))
            reader = PredictionLogReader(lake)
            fresh = [numbers(records) for records in reader.fresh()]
            assert stretch > 1 or {1} >= {len(records) for records in fresh}
            read += [number for records in fresh for number in records]
            shadow = [i for i in written if i % 4 == 3]
            off_policy = [i for i in written if i % 4 != 3 and i % 3 == 2]
            taken = reader.files.values()
            assert written == read
            assert (len(written), len(off_policy), 0, 0) == (
                sum(each.records for each in taken),
                sum(each.off_policy for each in taken),
                sum(each.gaps for each in taken),
                reader.torn_bytes(),
            )
            assert len(written) - len(shadow) - len(off_policy) == sum(t.requests for t in taken)
    for log in logs:
        log.close()


def test_what_was_handed_out_and_not_written_is_handed_out_again(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    log = PredictionLog(lake.prediction_log, "replica", "boot")
    for i in range(3):
        log.append(answer(i))
    log.close()
    for _ in range(2):
        assert [0, 1, 2] == numbers(next(PredictionLogReader(lake).fresh()))
    assert [[0, 1, 2]] == [numbers(records) for records in PredictionLogReader(lake).fresh()]
    assert [] == [*PredictionLogReader(lake).fresh()]
    about = {"1": 1, "0": 0}
    expected = Taken(log.path.stat().st_size, 3, 3, 2, 1, 1, about)
    assert {log.path.name: expected} == PredictionLogReader(lake).files


def test_a_record_that_was_half_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    log = PredictionLog(lake.prediction_log, "replica", "boot")
    log.append(answer(0))
    log.append(answer(1))
    log.close()
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-5])
    reader = PredictionLogReader(lake)
    assert [[0]] == [numbers(records) for records in reader.fresh()]
    assert len(whole) - 5 - reader.files[log.path.name].end == reader.torn_bytes() > 0
    log.path.write_bytes(whole)
    reader = PredictionLogReader(lake)
    assert [[1]] == [numbers(records) for records in reader.fresh()]
    assert 0 == reader.torn_bytes()


def test_without_the_table_the_whole_log_is_read_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path, "clicks")
    log = PredictionLog(lake.prediction_log, "replica", "boot")
    log.append(answer(0))
    log.close()
    for _ in range(2):
        assert [[0]] == [numbers(records) for records in PredictionLogReader(lake).fresh()]
