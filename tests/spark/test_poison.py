"""Poison in a good stream: every malformed record is named and kept, and harms no other."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from dagster_project.deployment import Deployment
from dagster_project.stages.quarantine import replay_quarantine
from data_contracts.clock import HOUR, SECOND, parse_time
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.conservation import conservation
from spark_jobs.feature_store import OnlineStates
from spark_jobs.stream import MicroBatches, ingest_available
from tests.poison import GOOD, MALFORMED, UNHARMED
from tests.spark.lakes import (
    NOON,
    ended,
    impression,
    land_at,
    rows_of,
    to_file,
    to_line,
)

KINDS = list(MALFORMED)
STREAM = [
    impression(f"g{i}", NOON + i * SECOND, user=f"u{i % 7}", item=f"i{i % 5}")
    for i in range(9 * len(KINDS))
]
USERS, ITEMS = [f"u{i}" for i in range(7)], [f"i{i}" for i in range(5)]


@dataclass(frozen=True)
class Streams:
    """The same good records in one batch, without poison and with every tenth record poison."""

    clean: Lake
    poisoned: Lake


@pytest.fixture(scope="module")
def streams(
    spark: SparkSession, clicks: UseCase, tmp_path_factory: pytest.TempPathFactory
) -> Streams:
    folder = tmp_path_factory.mktemp("poison")
    made = Streams(*(Lake(folder / name, clicks.name) for name in ("clean", "poisoned")))
    mixed: list[dict[str, Any] | bytes] = []
    for at, (payload, _) in enumerate(MALFORMED.values()):
        mixed += [*STREAM[9 * at : 9 * at + 9], payload]
    for lake, records in ((made.clean, STREAM), (made.poisoned, mixed)):
        land_at(lake, to_file(folder / "stream.jsonl", records))
        ingest_available(spark, clicks, lake)
    return made


def test_a_tenth_of_poison_is_quarantined_by_name_and_nothing_else_is(
    spark: SparkSession, streams: Streams
) -> None:
    lines = {10 * at + 10: kind for at, kind in enumerate(KINDS)}
    expected = {
        ("stream.jsonl", line): ["quarantine" if line in lines else "events"]
        for line in range(1, 10 * len(KINDS) + 1)
    }
    assert expected == ended(spark, streams.poisoned)
    for row in rows_of(spark, streams.poisoned.quarantine):
        payload, reason = MALFORMED[lines[row["line"]]]
        assert payload == row["payload"]
        assert re.match(reason, row["reasons"]), (lines[row["line"]], row["reasons"])
    counted = conservation(spark, streams.poisoned)
    assert (len(STREAM), len(KINDS), True) == (
        counted.events, counted.quarantined, counted.holds
    )  # fmt: skip


def test_the_good_records_are_what_they_are_without_poison(
    spark: SparkSession, clicks: UseCase, streams: Streams
) -> None:
    def events(lake: Lake) -> dict[str, dict[str, Any]]:
        rows = rows_of(spark, lake.events)
        return {r["event_id"]: {k: r[k] for k in r if k not in ("origin", "line")} for r in rows}

    assert events(streams.clean) == events(streams.poisoned)
    stores = [OnlineStates(clicks, lake) for lake in (streams.clean, streams.poisoned)]
    for group, keys in zip(clicks.groups, (USERS, ITEMS), strict=True):
        clean, poisoned = (store.packed(group, keys) for store in stores)
        assert set(keys) == set(clean)
        assert clean == poisoned, "no stamp in epoch units or a far year moved an as-of"


def test_poison_alone_and_after_a_mend_of_the_contract(
    spark: SparkSession, clicks: UseCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of nothing but poison; odd but sound records with it; then what a mend sets free."""
    deployment = Deployment("clicks", tmp_path / "root")
    lake = deployment.lake
    poison = [numbered(raw, i) for i, (raw, _) in enumerate(MALFORMED.values())]
    odd = [numbered(raw, 1000 + i) for i, raw in enumerate(UNHARMED.values())]
    to_file(lake.landing / "poison.jsonl", poison)
    to_file(lake.landing / "odd.jsonl", odd)
    ingest_available(spark, clicks, lake)
    assert [["events"]] * len(odd) + [["quarantine"]] * len(poison) == list(
        ended(spark, lake).values()
    )

    fields = dict(clicks.contract.fields)
    fields["position"] = replace(fields["position"], minimum=None, maximum=None)
    fields["event_type"] = replace(fields["event_type"], values=("impression", "Click", "purchase"))
    mended = replace(clicks, contract=replace(clicks.contract, fields=fields))
    monkeypatch.setitem(deployment.__dict__, "use_case", mended)
    monkeypatch.setitem(deployment.__dict__, "spark", spark)
    said = replay_quarantine(deployment)
    taken = (
        "undeclared type", "wrong-case type", "position below", "negative position",
        "position above",
    )  # fmt: skip
    assert (len(taken), len(taken)) == (said["mended"], said["added"]["events"])
    events = {row["event_id"] for row in rows_of(spark, lake.events)}
    assert {f"e{KINDS.index(kind)}" for kind in taken} == {e for e in events if int(e[1:]) < 1000}
    assert (len(KINDS), True) == (
        said["conservation"]["quarantined"], said["conservation"]["holds"]
    )  # fmt: skip


def numbered(raw: bytes, number: int) -> bytes:
    """The record with an event_id of its own."""
    return raw.replace(b'"e1"', f'"e{number}"'.encode())


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_one_malformed_record_leaves_a_lake_in_which_the_next_is_taken(
    spark: SparkSession, clicks: UseCase, lake: Lake, kind: str
) -> None:
    raw, reason = MALFORMED[kind]
    schema = "origin string, line bigint, payload binary"
    batches = MicroBatches(spark, clicks, lake)
    for batch, payload in enumerate((raw, to_line(GOOD), raw)):
        batches.process(spark.createDataFrame([("http-1", batch + 1, payload)], schema), batch)
    found = [(row["line"], row["verdict"]) for row in rows_of(spark, lake.quarantine)]
    assert [(1, "quarantine"), (3, "quarantine")] == found
    assert all(re.match(reason, row["reasons"]) for row in rows_of(spark, lake.quarantine))
    assert [2] == [row["line"] for row in rows_of(spark, lake.events)]
    states = OnlineStates(clicks, lake).read(clicks.groups[0], ["u1"])
    assert (
        parse_time(GOOD["event_time"]) <= states["u1"].as_of < parse_time(GOOD["event_time"]) + HOUR
    )
