"""The client against the real application, over a network that loses, delays and refuses."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from data_contracts.predictions import prediction_ids, read_log
from serving.app import build_app
from serving.client import Client, Refused, Unanswered
from tests.integration import asgi
from tests.integration.test_serving import replica
from tests.integration.world import CLICK, World, patient

ITEMS = [{"item_id": "i1", "position": 1}, {"item_id": "i2"}]
KEYS = ["u1\x1fi1", "u1\x1fi2"]
Answered = Callable[[httpx.Request], httpx.Response]
Fault = Callable[[httpx.Request, Answered], httpx.Response]


class Network(httpx.AsyncBaseTransport):
    """The way to an application in this process; each request meets the next fault, if any."""

    def __init__(self, app: asgi.Client, *faults: Fault) -> None:
        self._app, self._faults = app, [*faults]
        self.sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        fault = self._faults.pop(0) if self._faults else lambda asked, answered: answered(asked)
        # The application has a loop of its own.
        return await asyncio.to_thread(fault, request, self._answered)

    def _answered(self, request: httpx.Request) -> httpx.Response:
        headers = {k: v for k, v in request.headers.items() if k != "host"}
        path = request.url.raw_path.decode()
        found = self._app.post(path, content=request.content, headers=headers)
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)


def lost(request: httpx.Request, answered: Answered) -> httpx.Response:
    answered(request)
    raise httpx.ReadError("connection reset", request=request)


def unreachable(request: httpx.Request, answered: Answered) -> httpx.Response:
    raise httpx.ConnectError("connection refused", request=request)


def says(status: int, kind: str = "text/html", after: str | None = None) -> Fault:
    def said(request: httpx.Request, answered: Answered) -> httpx.Response:
        headers = {"content-type": kind} | ({"retry-after": after} if after else {})
        return httpx.Response(status, headers=headers, content=b'{"detail": "not now"}')

    return said


@pytest.fixture(scope="module")
def app(world: World) -> Iterator[asgi.Client]:
    with asgi.Client(build_app(patient(world.root))) as app:
        yield app


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def connect(app: asgi.Client, world: World, pauses: list[float]) -> Callable[..., Client]:
    def connected(*faults: Fault, key: str = world.operate) -> Client:
        network = Network(app, *faults)
        return Client(
            "http://test", key, "clicks", deadline_s=120.0, attempt_s=60.0, transport=network,
            pause=pauses.append,
        )  # fmt: skip

    return connected


def sent(client: Client) -> int:
    network = client._http._transport
    assert isinstance(network, Network)
    return network.sent


def test_scores_come_typed_and_in_order(connect: Callable[..., Client]) -> None:
    with connect() as client:
        found = client.predict(ITEMS, user_id="u1")
    assert ("clicks", "1", 2) == (found.model, found.version, len(found.predictions))
    first, second = found.predictions
    assert first.score != second.score
    assert (7, None) == (first.state_seq["item"], second.state_seq["item"])


@pytest.mark.parametrize("fault", [lost, unreachable, *map(says, (500, 503, 429, 502, 408))])
def test_what_was_not_answered_is_the_same_prediction_when_asked_again(
    app: asgi.Client, connect: Callable[..., Client], pauses: list[float], fault: Fault
) -> None:
    log = replica(app).predictor.log.path
    before = len(read_log(log).records)
    with connect(fault, fault) as client:
        found = client.predict(ITEMS, user_id="u1")
        assert (3, 2) == (sent(client), len(pauses))
    expected = prediction_ids("clicks", "1", found.request_id, KEYS)
    assert expected == [each.prediction_id for each in found.predictions]
    logged = [record["prediction_ids"] for record in read_log(log).records[before:]]
    assert ([expected] * 3 if fault is lost else [expected]) == logged


def test_a_server_is_left_alone_for_as_long_as_it_asks(
    connect: Callable[..., Client], pauses: list[float]
) -> None:
    with connect(says(429, after="3"), says(503, after="2")) as client:
        client.predict(ITEMS, user_id="u1")
    assert [True, True] == [3 <= pauses[0] < 3.2, 2 <= pauses[1] < 2.4]


def test_nobody_waits_for_longer_than_there_is_time(
    connect: Callable[..., Client], pauses: list[float]
) -> None:
    with connect(says(429, after="3600")) as client, pytest.raises(Refused) as refused:
        client.predict(ITEMS, user_id="u1")
    assert (429, 1, []) == (refused.value.status, sent(client), pauses)
    nowhere = Client("http://127.0.0.1:1", "key", "clicks", deadline_s=0.2)
    with nowhere, pytest.raises(Unanswered, match=r"after \d+ attempts"):
        nowhere.predict(ITEMS)


class Trickling(httpx.AsyncBaseTransport):
    """A server that goes on and on answering, with a byte now and then."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async def bytes_for_ever() -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.to_thread(bytes)

        return httpx.Response(200, content=bytes_for_ever())


def test_an_answer_that_trickles_does_not_outlast_the_deadline(pauses: list[float]) -> None:
    endless = Client(
        "http://test", "key", "clicks", deadline_s=0.4, attempt_s=0.15, transport=Trickling(),
        pause=pauses.append,
    )  # fmt: skip
    began = time.monotonic()
    with endless, pytest.raises(Unanswered, match=r"after \d+ attempts"):
        endless.predict(ITEMS)
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("status", "shared", "fields"),
    [(422, {"user_id": 5}, ["user_id"]), (403, {"event_time": "2026-01-01T00:00:00Z"}, [])],
)
def test_what_is_wrong_is_not_sent_again(
    connect: Callable[..., Client], status: int, shared: dict[str, Any], fields: list[str]
) -> None:
    with connect() as client, pytest.raises(Refused) as refused:
        client.predict(ITEMS, **shared)
    assert (status, 1) == (refused.value.status, sent(client))
    assert fields == [error["field"] for error in refused.value.errors]


def test_a_failure_of_the_application_itself_is_not_sent_again(
    connect: Callable[..., Client],
) -> None:
    broken = says(500, "application/problem+json")
    with connect(broken) as client, pytest.raises(Refused, match="500: not now"):
        client.predict(ITEMS, user_id="u1")


def test_events_are_on_the_disk_once_they_are_answered(
    connect: Callable[..., Client], world: World
) -> None:
    with connect(lost) as client:
        taken = client.events([CLICK])
    lines = (world.lake.landing / taken.file).read_bytes()[: taken.offset].splitlines()
    assert (1, ["e1", "e1"]) == (taken.accepted, [json.loads(line)["event_id"] for line in lines])
