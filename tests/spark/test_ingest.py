"""Every record of the landing log ends in exactly one table, whatever it holds."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from data_contracts.clock import DAY, SECOND, format_time
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.conservation import conservation
from spark_jobs.feature_store import OnlineStates
from spark_jobs.stream import ingest_available
from tests.spark.lakes import (
    ARRIVAL,
    NOON,
    ended,
    impression,
    land_at,
    original,
    rows_of,
    to_file,
    to_line,
    typed,
    versions,
)

GOOD = [impression(f"e{i}", NOON + i * SECOND, user=f"u{i % 3}") for i in range(6)]
IN_2099 = format_time(NOON + 79 * 365 * DAY)
FIRST = [
    (GOOD[0], "events"),
    (GOOD[1], "events"),
    (GOOD[0], "duplicates"),
    ({**GOOD[1], "position": 7}, "conflict"),
    ({**GOOD[2], "position": 0}, "quarantine"),
    ({**GOOD[2], "colour": "red"}, "quarantine"),
    ({**GOOD[3], "event_id": "from-2099", "event_time": IN_2099}, "quarantine"),
    (
        {**GOOD[3], "event_id": "to-2099", "event_time": IN_2099, "arrived_at": IN_2099},
        "quarantine",
    ),
    ({**GOOD[3], "event_id": "stamped-2099", "arrived_at": IN_2099}, "quarantine"),
    (b'{"event_id": "torn", "event_ty', "quarantine"),
    (b"\xff\xfe\x80 no text at all", "quarantine"),
    (b"", "quarantine"),
    (GOOD[2], "events"),
]
SECOND_FILE = [
    (GOOD[3], "events"),
    (GOOD[0], "duplicates"),
    ({**GOOD[0], "user_id": "u9"}, "conflict"),
    (GOOD[3], "duplicates"),
    ({**GOOD[0], "arrived_at": format_time(NOON + 1)}, "duplicates"),
    (GOOD[4], "events"),
]
LATER = [
    (GOOD[5], "events"),
    (GOOD[4], "duplicates"),
    ({**GOOD[3], "item_id": "i9"}, "conflict"),
    (b"[1, 2]", "quarantine"),
]


@dataclass(frozen=True)
class Ingested:
    lake: Lake
    files: list[Path]


@pytest.fixture(scope="module")
def ingested(
    spark: SparkSession, clicks: UseCase, tmp_path_factory: pytest.TempPathFactory
) -> Ingested:
    """Two files in one batch, a third in the next."""
    folder = tmp_path_factory.mktemp("ingested")
    lake = Lake(folder / "root", clicks.name)
    logs = {"a.jsonl": FIRST, "b.jsonl": SECOND_FILE, "c.jsonl": LATER}
    files = [to_file(folder / name, [record for record, _ in log]) for name, log in logs.items()]
    land_at(lake, files[0])
    land_at(lake, files[1], at=ARRIVAL + 1)
    ingest_available(spark, clicks, lake)
    land_at(lake, files[2], at=ARRIVAL + DAY)
    ingest_available(spark, clicks, lake)
    return Ingested(lake, files)


def test_each_record_ends_where_it_must_and_nowhere_else(
    spark: SparkSession, ingested: Ingested
) -> None:
    logs = {"a.jsonl": FIRST, "b.jsonl": SECOND_FILE, "c.jsonl": LATER}
    expected = {
        (name, line): [verdict]
        for name, log in logs.items()
        for line, (_, verdict) in enumerate(log, 1)
    }
    assert expected == ended(spark, ingested.lake)
    found = conservation(spark, ingested.lake)
    counted = (found.events, found.duplicates, found.conflicts, found.quarantined)
    verdicts = [verdict for log in logs.values() for _, verdict in log]
    kinds = ("events", "duplicates", "conflict", "quarantine")
    assert tuple(verdicts.count(kind) for kind in kinds) == counted
    assert found.holds


def test_events_keep_every_field_and_carry_the_seq_of_their_batch(
    spark: SparkSession, ingested: Ingested, clicks: UseCase
) -> None:
    rows = {row["event_id"]: row for row in rows_of(spark, ingested.lake.events)}
    expected = {event["event_id"]: event for event in typed(clicks, GOOD)}
    for name, event in expected.items():
        stored = {field: rows[name][field] for field in event}
        for field in ("event_time", "arrived_at"):
            stored[field] = round(stored[field].timestamp() * 1e6)
        assert event == stored
    assert {name: 1 + (name == "e5") for name in expected} == {n: r["seq"] for n, r in rows.items()}


def test_quarantine_keeps_the_payload_to_the_byte_and_says_why(
    spark: SparkSession, ingested: Ingested
) -> None:
    rows = {
        (original(row["origin"]), row["line"]): row
        for row in rows_of(spark, ingested.lake.quarantine)
    }
    for line, (record, verdict) in enumerate(FIRST, 1):
        if verdict in ("quarantine", "conflict"):
            payload = record if isinstance(record, bytes) else to_line(record)
            assert payload == rows["a.jsonl", line]["payload"]
    reasons = {line: rows["a.jsonl", line]["reasons"] for line in range(4, 13)}
    assert "position: 0 is below 1" == reasons[5]
    assert "'colour': unknown field" == reasons[6]
    assert reasons[7].startswith("event_time: ")
    assert reasons[8].startswith("arrived_at: ")
    assert reasons[9].startswith("arrived_at: ")
    assert reasons[11].startswith("record: not UTF-8 at byte 0")
    origin = next(r["origin"] for r in rows_of(spark, ingested.lake.events) if r["line"] == 2)
    assert f"event_id: 'e1' differs from {origin}:2" == reasons[4]


def test_an_event_of_the_year_2099_makes_no_other_late(ingested: Ingested, clicks: UseCase) -> None:
    online = OnlineStates(clicks, ingested.lake)
    times = {f"u{i}": NOON + SECOND * (4 if i < 2 else 5) for i in range(3)}
    states = online.read(clicks.groups[0], times)
    assert times == {user: state.as_of for user, state in states.items()}


def test_ingesting_again_changes_nothing(
    spark: SparkSession, ingested: Ingested, clicks: UseCase
) -> None:
    before = versions(spark, ingested.lake), ended(spark, ingested.lake)
    clock = ingested.lake.stream / "write_clock.json"
    written = clock.read_text()
    assert 0 == land_at(ingested.lake, *ingested.files, at=ARRIVAL + 2 * DAY)
    ingest_available(spark, clicks, ingested.lake)
    assert before == (versions(spark, ingested.lake), ended(spark, ingested.lake))
    assert written == clock.read_text()


def test_a_lost_checkpoint_is_refused_before_anything_is_skipped(
    spark: SparkSession, ingested: Ingested, clicks: UseCase
) -> None:
    checkpoint = ingested.lake.stream / "checkpoint"
    away = checkpoint.rename(checkpoint.with_name("away"))
    try:
        with pytest.raises(ValueError, match=r"checkpoint: gone, but .*events holds batches"):
            ingest_available(spark, clicks, ingested.lake)
    finally:
        away.rename(checkpoint)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"odd\.jsonl: is empty"),
        (b"\x00\x01" * 2000, r"odd\.jsonl: is binary"),
        (None, r"odd\.jsonl: no such file"),
    ],
)
def test_a_file_that_holds_no_lines_is_refused_by_name_and_none_is_taken(
    lake: Lake, tmp_path: Path, content: bytes | None, said: str
) -> None:
    good, odd = to_file(tmp_path / "good.jsonl", GOOD), tmp_path / "odd.jsonl"
    if content is not None:
        odd.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        land_at(lake, good, odd)
    assert not lake.landing.exists()


def test_a_file_name_with_a_line_break_is_refused(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line break"):
        land_at(lake, to_file(tmp_path / "a\nb.jsonl", GOOD))


def test_damaged_files_of_any_kind_lose_nothing_in_batches_of_any_size(
    spark: SparkSession, lake: Lake, clicks: UseCase, tmp_path: Path
) -> None:
    lines = [to_line(event) for event in GOOD]
    huge = b'{"event_id": "' + b"x" * 2000 + b'"}'
    contents = {
        "blank.jsonl": b"\n" + lines[0] + b"\n\n",
        "crlf.jsonl": lines[1] + b"\r\n" + lines[2] + b"\r\n",
        "garbage.jsonl": bytes(range(1, 256)) * 3,
        "huge.jsonl": lines[4] + b"\n" + huge + b"\n" + lines[4] + b"\n",
        "no_newline.jsonl": lines[3],
        "truncated.jsonl": b"\n".join([*lines[:3], lines[3][:50]]),
    }
    expected = {
        ("blank.jsonl", 1): "quarantine",
        ("blank.jsonl", 2): "events",
        ("blank.jsonl", 3): "quarantine",
        ("crlf.jsonl", 1): "events",
        ("crlf.jsonl", 2): "events",
        **{("garbage.jsonl", line): "quarantine" for line in range(1, 5)},
        ("huge.jsonl", 1): "events",
        ("huge.jsonl", 2): "quarantine",
        ("huge.jsonl", 3): "duplicates",
        ("no_newline.jsonl", 1): "events",
        **{("truncated.jsonl", line): "duplicates" for line in range(1, 4)},
        ("truncated.jsonl", 4): "quarantine",
    }
    for i, (name, content) in enumerate(contents.items()):
        (tmp_path / name).write_bytes(content)
        land_at(lake, tmp_path / name, at=ARRIVAL + i)
    ingest_available(spark, clicks, lake, max_batch_bytes=1500)
    assert {place: [verdict] for place, verdict in expected.items()} == ended(spark, lake)
    assert conservation(spark, lake).holds
    kept = {
        (original(row["origin"]), row["line"]): row["payload"]
        for row in rows_of(spark, lake.quarantine)
    }
    assert huge == kept["huge.jsonl", 2]
    assert contents["garbage.jsonl"] == b"\n".join(kept["garbage.jsonl", i] for i in range(1, 5))
    seqs = [row["seq"] for row in rows_of(spark, lake.events)]
    assert sorted(seqs) == seqs
    assert len(set(seqs)) > 2


def test_what_comes_in_live_does_not_wait_for_a_long_history(
    spark: SparkSession, lake: Lake, clicks: UseCase, tmp_path: Path
) -> None:
    history = [impression(f"h{i}", NOON + i * SECOND) for i in range(20)]
    land_at(lake, to_file(tmp_path / "history.jsonl", history), at=ARRIVAL)
    (lake.landing / "http-1.jsonl").write_bytes(to_line(impression("live", NOON)) + b"\n")
    ingest_available(spark, clicks, lake, max_batch_bytes=1500)
    found = {row["event_id"]: row["seq"] for row in rows_of(spark, lake.events)}
    assert (1, 21) == (found["live"], len(found))
    assert len({*found.values()}) > 2


def test_a_growing_file_is_read_up_to_its_last_newline_and_continued_later(
    spark: SparkSession, lake: Lake, clicks: UseCase
) -> None:
    lines = [to_line(event) + b"\n" for event in GOOD[:3]]
    lake.landing.mkdir(parents=True)
    growing = lake.landing / "http-1.jsonl"
    growing.write_bytes(lines[0] + lines[1][:40])
    ingest_available(spark, clicks, lake)
    assert {("http-1.jsonl", 1): ["events"]} == ended(spark, lake)
    assert conservation(spark, lake).holds
    with growing.open("ab") as file:
        file.write(lines[1][40:] + b"torn\n" + lines[2])
    ingest_available(spark, clicks, lake)
    verdicts = ["events", "events", "quarantine", "events"]
    expected = {("http-1.jsonl", line): [verdict] for line, verdict in enumerate(verdicts, 1)}
    assert expected == ended(spark, lake)
    assert conservation(spark, lake).holds


def test_the_same_file_twice_in_one_call_lands_once(lake: Lake, tmp_path: Path) -> None:
    file = to_file(tmp_path / "day.jsonl", GOOD)
    assert 1 == land_at(lake, file, file)
    assert [file.read_bytes()] == [path.read_bytes() for path in lake.landing.iterdir()]
