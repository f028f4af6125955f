"""What a request's row takes from a dimension: as of q, of the newest version, on record."""

import threading
import time
from collections.abc import Awaitable, Iterator
from typing import Any

import numpy as np
import pytest
from starlette.routing import Mount

from data_contracts.accumulators import Events
from data_contracts.clock import HOUR, SECOND, format_time
from data_contracts.dimension import DimensionRow
from data_contracts.keys import text_of
from data_contracts.lake import Lake
from data_contracts.predictions import read_log
from data_contracts.states import advance
from data_contracts.tiles import raw_rows
from data_contracts.use_case import load_use_case
from data_contracts.views import View, ViewRegistry
from serving.app import build_app
from serving.auth import create_key
from serving.dimensions import DimensionReader
from serving.replica import Replica
from spark_jobs.dimensions import append_rows
from spark_jobs.feature_store import OnlineStates
from tests.integration.asgi import Client
from tests.integration.world import NOW, SEQ, as_role, patient, register

USE_CASE = load_use_case("world")
(ITEM,) = USE_CASE.declared.dimensions
TASTE = next(group for group in USE_CASE.groups if group.name == "taste")
PATIENCE_S = 30
"""How long a new version may take to be seen, on a machine that is busy."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """User u1 saw one impression of c1, two of c2, three of c3; i1 went from c1 to c2."""
    lake = Lake(tmp_path_factory.mktemp("lake"), USE_CASE.name)
    register(USE_CASE, lake, lake.root / "export")
    online, views = OnlineStates(USE_CASE, lake), ViewRegistry(lake)
    for group in USE_CASE.groups:
        views.put(View(group, "ready"))
    for n in (1, 2, 3):
        seen = Events(
            time=NOW - np.arange(n, 0, -1) * SECOND,
            tie=np.arange(n),
            text={"event_type": np.array(["impression"] * n, object)},
            number={},
        )
        fresh = raw_rows(TASTE, np.zeros(n, np.int64), seen)
        online.write(TASTE, advance(TASTE, {}, [text_of(("u1", f"c{n}"))], fresh, SEQ, NOW))
    rows = [DimensionRow("i1", NOW - HOUR, ("c1",)), DimensionRow("i1", NOW + HOUR, ("c2",))]
    append_rows(USE_CASE, lake, ITEM, rows)
    return lake


class Shop:
    """A served world, and what its record says of a request."""

    def __init__(self, client: Client, lake: Lake) -> None:
        self._client = client
        self._key = as_role(create_key(lake.keys, ["predict", "operate"], "test"))
        self.asked = 0

    @property
    def replica(self) -> Replica:
        route = next(r for r in self._client.app.routes if getattr(r, "path", "") == "/world")
        assert isinstance(route, Mount)
        return route.app.state.replica

    def run(self, work: Awaitable[None]) -> None:
        async def done() -> None:
            await work

        self._client.run(done())

    def post(self, q: int, *candidates: dict[str, Any]) -> Any:
        self.asked += 1
        body = {
            "request_id": f"r{self.asked}",
            "event_time": format_time(q),
            "user_id": "u1",
            "candidates": candidates,
        }
        return self._client.post("/world/v1/predict", json=body, headers=self._key)

    def served(self, q: int, *candidates: dict[str, Any]) -> list[tuple[str | None, float]]:
        """Per candidate its category and the impressions of it, as they were recorded."""
        assert 200 == self.post(q, *candidates).status_code
        record = read_log(self.replica.predictor.log.path).records[-1]
        place = record["feature_names"].index("taste_impressions_24h")
        pairs = zip(record["inputs"], record["features"], strict=True)
        return [(row["category"], values[place]) for row, values in pairs]


@pytest.fixture
def shop(lake: Lake) -> Iterator[Shop]:
    settings = patient(lake.root, use_case="world", clock="replay")
    with Client(build_app(settings)) as client:
        yield Shop(client, lake)


def test_a_row_takes_the_attribute_of_its_query_time_unless_it_carries_one(shop: Shop) -> None:
    candidates = ({"item_id": "i1"}, {"item_id": "i1", "category": "c3"}, {"item_id": "i9"})
    before, after = [shop.served(NOW + HOUR + us, *candidates) for us in (-1, 0)]
    assert [("c1", 1.0), ("c3", 3.0), (None, 0.0)] == before
    assert [("c2", 2.0), ("c3", 3.0), (None, 0.0)] == after


def test_a_request_without_the_dimensions_key_is_refused_by_its_name(shop: Shop) -> None:
    answer = shop.post(NOW, {"category": "c1"})
    assert 422 == answer.status_code
    assert "candidates.0.item_id" in answer.text


def test_a_replica_sees_what_is_loaded_while_it_runs_and_keeps_it_when_it_cannot_look(
    shop: Shop, lake: Lake
) -> None:
    assert [(None, 0.0)] == shop.served(NOW, {"item_id": "i2"})
    append_rows(USE_CASE, lake, ITEM, [DimensionRow("i2", NOW - HOUR, ("c3",))])
    deadline = time.monotonic() + PATIENCE_S
    while shop.served(NOW, {"item_id": "i2"}) != [("c3", 3.0)]:
        assert time.monotonic() < deadline
    (lake.dimensions / "item").rename(lake.dimensions / "away")
    try:
        while not shop.replica.status()["dimension_failures"]:
            assert [("c3", 3.0)] == shop.served(NOW, {"item_id": "i2"})
            assert time.monotonic() < deadline
        assert [("c3", 3.0)] == shop.served(NOW, {"item_id": "i2"})
    finally:
        (lake.dimensions / "away").rename(lake.dimensions / "item")


def test_no_request_waits_for_a_table_and_none_begins_a_second_look(
    shop: Shop, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    dimensions, goes_on, begun = shop.replica.predictor.dimensions, threading.Event(), list[int]()
    look = DimensionReader._look

    def slow(reader: DimensionReader) -> None:
        begun.append(1)
        assert goes_on.wait(60)
        look(reader)

    monkeypatch.setattr(DimensionReader, "_look", slow)
    append_rows(USE_CASE, lake, ITEM, [DimensionRow("i3", NOW - HOUR, ("c3",))])
    for _ in range(3):
        dimensions._due = 0.0
        assert [(None, 0.0)] == shop.served(NOW, {"item_id": "i3"})
    goes_on.set()
    assert dimensions._looking is not None
    shop.run(dimensions._looking)
    assert [1] == begun
    assert [("c3", 3.0)] == shop.served(NOW, {"item_id": "i3"})


def test_a_replica_that_nobody_asks_sees_what_is_loaded(shop: Shop, lake: Lake) -> None:
    append_rows(USE_CASE, lake, ITEM, [DimensionRow("i4", NOW - HOUR, ("c3",))])
    dimensions, watch = shop.replica.predictor.dimensions, shop.replica.watch
    dimensions._due = 0.0
    assert watch is not None
    shop.run(watch.once())
    assert dimensions._looking is not None
    shop.run(dimensions._looking)
    assert [("c3", 3.0)] == shop.served(NOW, {"item_id": "i4"})
