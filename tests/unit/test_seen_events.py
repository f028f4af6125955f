"""Seen events beside a dictionary of them, also where digests of ids begin alike."""

import hashlib
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs import seen_events
from spark_jobs.seen_events import SeenEvents

Said = dict[str, int]
"""Id -> one of a few payloads."""

BATCHES = st.lists(st.dictionaries(st.text(max_size=3), st.integers(0, 2)), max_size=8)


def table(said: Said) -> pa.Table:
    digests = [hashlib.blake2b(bytes([text]), digest_size=16).hexdigest() for text in said.values()]
    return pa.table({"event_id": pa.array([*said], pa.string()), "digest": digests})


def check(batches: list[Said]) -> None:
    seen, expected = SeenEvents(lambda _: {}), Said()
    for batch in batches:
        found = [flags.tolist() for flags in seen.known(table(batch))]
        same = [expected.get(name) == text for name, text in batch.items()]
        assert [[name in expected for name in batch], same] == found
        fresh = {name: text for name, text in batch.items() if name not in expected}
        seen.add(table(fresh))
        expected |= fresh
        assert len(expected) == len(seen)


@given(BATCHES)
def test_ids_and_payloads_are_known_as_by_a_dictionary(batches: list[Said]) -> None:
    check(batches)


def test_ids_whose_digests_begin_alike_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def alike(text: bytes) -> Any:
        second = hashlib.blake2b(text, digest_size=8).digest()
        return SimpleNamespace(digest=lambda: bytes([len(text) % 2] * 8) + second)

    # Not by the module's own name: a table's digests are made by it too.
    monkeypatch.setattr(seen_events, "hashlib", SimpleNamespace(sha256=alike))
    ids = [f"e{n}" for n in range(30)]
    check([dict.fromkeys(ids[at : at + 5], 0) for at in range(0, 30, 5)])
    check([{name: n % 2 for n, name in enumerate(ids)}, dict.fromkeys([*ids, "new"], 1)])
