"""What is removed from the online store is gone from it, be it SQLite or Redis; nothing else is."""

import json
import sqlite3
from contextlib import closing

import pytest
import redis

from data_contracts.aggregates import Count
from data_contracts.features import FeatureGroup
from data_contracts.keys import text_of
from data_contracts.lake import Lake
from data_contracts.online import view_name
from data_contracts.states import encode
from data_contracts.use_case import UseCase
from data_contracts.views import View, ViewRegistry
from data_contracts.windows import Sliding
from spark_jobs import online_store
from spark_jobs.feature_store import OnlineStates
from tests.integration.test_online_stores import ODD, state_of
from tests.parity.log import FADING, WIDE

USERS = {key: state_of(WIDE, seed, 1) for seed, key in enumerate(("ann", "ben", "a'b"))}
ITEMS = {"ann": state_of(FADING, 7, 1)}
PACKED_ITEMS = {key: encode(FADING, state) for key, state in ITEMS.items()}


@pytest.fixture
def lake(lake: Lake, use_case: UseCase) -> Lake:
    """Holds the states of three users and of an item."""
    writer = OnlineStates(use_case, lake)
    writer.write(WIDE, USERS)
    writer.write(FADING, ITEMS)
    return lake


def rows_of(lake: Lake, view: str) -> int:
    """How many keys the store itself holds for a view of this lake."""
    project = json.loads((lake.online / "feature_store.yaml").read_text())["project"]
    if lake.redis is None:
        with closing(sqlite3.connect(lake.online_file)) as file:
            names = [row[0] for row in file.execute("SELECT name FROM sqlite_master")]
            tables = [name for name in names if name == f"{project}_{view}"]
            rows = (file.execute(f'SELECT count(DISTINCT entity_key) FROM "{t}"') for t in tables)
            return sum(row.fetchone()[0] for row in rows)
    with closing(redis.Redis.from_url(lake.redis.url)) as client:
        keys = [key for key in client.scan_iter() if key.endswith(project.encode())]
        return sum(client.hexists(key, f"_ts:{view}") for key in keys)


def test_a_removed_row_is_gone_and_its_neighbours_stay(use_case: UseCase, lake: Lake) -> None:
    writer = OnlineStates(use_case, lake)
    writer.remove(WIDE, ["ann", "a'b", "never written"])
    assert {"ben": encode(WIDE, USERS["ben"])} == writer.packed(WIDE, USERS)
    assert PACKED_ITEMS == writer.packed(FADING, ITEMS)
    assert (1, 1) == (rows_of(lake, view_name(WIDE)), rows_of(lake, view_name(FADING)))
    writer.write(WIDE, USERS)
    assert {key: encode(WIDE, s) for key, s in USERS.items()} == writer.packed(WIDE, USERS)


def test_the_keys_that_have_a_state_are_listed_a_part_at_a_time(
    use_case: UseCase, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_store, "LISTED_AT_ONCE", 2)
    states = {key: USERS["ann"] for key in ODD if len(key) < 100}
    writer = OnlineStates(use_case, lake)
    writer.write(WIDE, states)
    assert {*USERS, *states} == set(writer.keys(WIDE))
    assert ["ann"] == list(writer.keys(FADING))
    writer.remove(WIDE, [*states, *USERS])
    assert [] == list(writer.keys(WIDE))


def test_the_keys_of_pairs_are_listed_by_their_texts(use_case: UseCase, lake: Lake) -> None:
    pair = FeatureGroup("both", ("user_id", "position"), {"n": Count()}, (Sliding("1h"),))
    ViewRegistry(lake).put(View(pair, "ready"))
    states = {text_of(key): state_of(pair, 1, 1) for key in (("ann", 1), ("", -7), ("1:a", 12))}
    writer = OnlineStates(use_case, lake)
    writer.write(pair, states)
    assert {*states} == set(writer.keys(pair))
    assert {*USERS} == set(writer.keys(WIDE))


def test_a_view_that_is_dropped_leaves_no_row(use_case: UseCase, lake: Lake) -> None:
    assert (3, 1) == (rows_of(lake, view_name(WIDE)), rows_of(lake, view_name(FADING)))
    writer = OnlineStates(use_case, lake)
    writer.drop(WIDE)
    assert (0, 1) == (rows_of(lake, view_name(WIDE)), rows_of(lake, view_name(FADING)))
    assert PACKED_ITEMS == writer.packed(FADING, ITEMS)
