"""More than a replica can answer: the rest is refused before its body is read."""

import asyncio
import gc
import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from threading import Event
from typing import Any

import httpx
import pytest

from data_contracts.predictions import read_log
from serving.app import build_app
from serving.auth import create_key
from tests.integration.asgi import Client
from tests.integration.test_serving import replica
from tests.integration.world import CLICK, World, as_role, asked, build, patient

PREDICT, INFER = "/clicks/v1/predict", "/clicks/v2/models/clicks/infer"
EVENTS, ROLLOUT = "/clicks/v1/events", "/clicks/v1/rollout"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = build(tmp_path_factory.mktemp("lake"))
    # With a write-ahead log nobody could keep the reader waiting.
    gc.collect()
    with closing(sqlite3.connect(world.lake.online_file)) as file:
        assert ("delete",) == file.execute("PRAGMA journal_mode = DELETE").fetchone()
    return world


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[Client]:
    with Client(build_app(patient(world.root, clock="replay", max_in_flight=4))) as client:
        yield client


def sender(client: Client) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(client.app), base_url="http://test")


async def stalled(begun: asyncio.Semaphore) -> AsyncIterator[bytes]:
    """A body that begins, and does not go on."""
    yield b"{"
    begun.release()
    await asyncio.Event().wait()


async def unread() -> AsyncIterator[bytes]:
    pytest.fail("the body was read")
    yield b""


def posted(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request to the model as a server gives it to the application: scope, body."""
    body = json.dumps({k: v for k, v in asked().items() if k != "event_time"}).encode()
    scope = {"type": "http", "method": "POST", "path": PREDICT, "query_string": b"",
             "headers": [(b"x-api-key", world.predict.encode())], "scheme": "http"}  # fmt: skip
    return scope, {"type": "http.request", "body": body}


@pytest.mark.parametrize(("path", "form"), [(PREDICT, "detail"), (INFER, "error")])
def test_who_may_not_come_in_is_refused_before_the_body_is_read(
    client: Client, world: World, path: str, form: str
) -> None:
    often = create_key(world.lake.keys, ["predict"], "often", rate=0.001)
    limited = {"headers": {"x-api-key": often}}
    refused = [
        ({}, 401, "no API key"),
        ({"headers": as_role(world.events)}, 403, "'predict'"),
        ({"headers": {**as_role(world.predict), "x-deadline-ms": "soon"}}, 400, "'soon'"),
        (limited, 429, "more than 0.001 requests a second"),
    ]
    client.post(path, json={}, **limited)
    for options, status, said in refused:
        answer = client.post(path, content=unread(), **options)
        assert status == answer.status_code
        assert said in answer.json()[form]


def test_a_version_by_name_takes_role_operate_before_the_body_is_read(
    client: Client, world: World
) -> None:
    path = "/clicks/v2/models/clicks/versions/1/infer"
    answer = client.post(path, content=unread(), headers=as_role(world.predict))
    assert (403, True) == (answer.status_code, "'operate'" in answer.json()["error"])


def test_what_is_under_way_stays_bounded_and_the_rest_is_told_when_to_come_again(
    client: Client, world: World
) -> None:
    async def together() -> list[httpx.Response]:
        async with sender(client) as many:
            bodies = [asked(request_id=f"r{i}") for i in range(60)]
            key = as_role(world.operate)
            return await asyncio.gather(
                *(many.post(PREDICT, json=body, headers=key) for body in bodies)
            )

    answers = client.run(together())
    found = Counter(answer.status_code for answer in answers)
    assert {200, 429} == {*found} and found[200] >= 4
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {"application/problem+json"} == {answer.headers["content-type"] for answer in refused}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    (status,) = client.get("/readyz").json()["use_cases"].values()
    assert len(refused) == status["refused"]


def test_bodies_that_do_not_come_hold_their_places_until_their_deadline_and_no_longer(
    client: Client, world: World
) -> None:
    key = as_role(world.operate)

    async def crowded() -> tuple[list[int], int]:
        begun, late = asyncio.Semaphore(0), {**key, "x-deadline-ms": "5000"}
        async with sender(client) as many:
            slow = [
                asyncio.create_task(many.post(PREDICT, content=stalled(begun), headers=late))
                for _ in range(4)
            ]
            for _ in slow:
                await begun.acquire()
            other = await many.post(PREDICT, json=asked(), headers=key)
            return [(await each).status_code for each in slow], other.status_code

    assert ([408] * 4, 429) == client.run(crowded())
    assert 200 == client.post(PREDICT, json=asked(), headers=key).status_code


@pytest.fixture
def hurried(world: World) -> Iterator[Client]:
    """An application that waits for no body for long."""
    with Client(build_app(patient(world.root, engine="plain", body_s=0.5))) as client:
        yield client


@pytest.mark.parametrize("path", [EVENTS, ROLLOUT, "/clicks/release/session"])
def test_nobody_waits_for_ever_for_a_body_that_does_not_come(
    hurried: Client, world: World, path: str
) -> None:
    key = {} if path.endswith("session") else as_role(world.operate)
    answer = hurried.post(path, content=stalled(asyncio.Semaphore(0)), headers=key)
    assert (408, "application/problem+json") == (
        answer.status_code, answer.headers["content-type"]
    )  # fmt: skip
    assert "not all of it came within 0.5 s" in answer.json()["detail"]


def test_requests_with_events_that_are_under_way_are_bounded_before_their_bodies_are_read(
    world: World,
) -> None:
    key = as_role(world.events)

    async def crowded() -> tuple[list[int], httpx.Response]:
        begun = asyncio.Semaphore(0)
        async with sender(calm) as many:
            slow = [
                asyncio.create_task(many.post(EVENTS, content=stalled(begun), headers=key))
                for _ in range(4)
            ]
            for _ in slow:
                await begun.acquire()
            refused = await many.post(EVENTS, content=unread(), headers=key)
            return [(await each).status_code for each in slow], refused

    with Client(build_app(patient(world.root, max_in_flight=4, body_s=5.0))) as calm:
        slow, refused = calm.run(crowded())
        assert ([408] * 4, 429) == (slow, refused.status_code)
        assert int(refused.headers["retry-after"]) >= 1
        assert 202 == calm.post(EVENTS, json=CLICK, headers=key).status_code
        (status,) = calm.get("/readyz").json()["use_cases"].values()
        assert (1, 0) == (status["events_shed"], status["refused"])


def test_requests_that_came_together_are_counted_before_one_is_answered(
    hurried: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, seen = replica(hurried), list[int]()
    real = here.predictor.alone

    def alone() -> bool:
        seen.append(here.admission.under_way)
        return real()

    async def one() -> None:
        scope, *messages = posted(world)

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            """Nobody listens."""

        await hurried.app(scope, receive, send)

    async def together() -> None:
        await asyncio.gather(*(one() for _ in range(4)))

    for _ in range(3):
        hurried.run(one())
    monkeypatch.setattr(here.predictor, "alone", alone)
    hurried.run(together())
    assert 4 == seen[0]


def test_a_request_whose_client_has_left_is_given_up(
    hurried: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, sent, given_up = replica(hurried), list[Any](), False

    async def left() -> None:
        begun = asyncio.Event()
        scope, *messages = posted(world)

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await begun.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        async def score(*arguments: Any) -> Any:
            nonlocal given_up
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                given_up = True
                raise

        monkeypatch.setattr(here.predictor.arms.now.champion.scorer, "score", score)
        async with asyncio.timeout(30):
            await hurried.app(scope, receive, send)

    hurried.run(left())
    assert ([], True, 0) == (sent, given_up, here.admission.under_way)
    assert 0 == here.predictor.answered


def test_a_store_that_answers_too_late_gives_way_to_defaults_within_the_deadline(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(name: str, within_ms: int = 60_000) -> bool:
        headers = {**as_role(world.operate), "x-deadline-ms": str(within_ms)}
        answer = client.post(PREDICT, json=asked(request_id=name), headers=headers)
        assert 200 == answer.status_code
        return answer.json()["flags"]["store_failed"]

    assert not failed("before")
    reader = replica(client).predictor.arms.now.champion.reader
    source, answers, reads = reader._source, Event(), list[Any]()
    real, read = source._provider, reader.read

    class Slow:
        def online_read(self, *asked: Any) -> Any:
            answers.wait(60)
            return real.online_read(*asked)

    async def counted(*asked: Any) -> Any:
        reads.append(asked)
        return await read(*asked)

    monkeypatch.setattr(source, "_provider", Slow())
    monkeypatch.setattr(reader, "read", counted)
    # What was read before is kept as long as the store is unchanged.
    source._kept, source._at = {}, None
    late = [(failed(f"late{i}", 3_000), len(reads)) for i in range(3)]
    assert [True, True, True] == [gave_up for gave_up, _ in late]
    # The first waits for its share of the time; later ones know that the store owes an answer.
    assert 1 == late[0][1] and late[1][1] == late[2][1]
    answers.set()
    end = time.monotonic() + 60
    while failed("after"):
        assert time.monotonic() < end
    log = read_log(replica(client).predictor.log.path).records
    found = {each["request_id"]: each for each in log}
    assert 500 < found["late0"]["latency_ms"]["features"]
    assert {True} == {found[f"late{i}"]["store_failed"] for i in range(3)}
    assert {0} == {seq for row in found["late0"]["seqs"] for seq in row}


def test_a_locked_store_is_not_waited_for_and_its_reader_writes_nothing(
    client: Client, world: World
) -> None:
    headers, reader = as_role(world.operate), replica(client).predictor.arms.now.champion.reader
    connection = reader._source._provider.online_store._conn
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("CREATE TABLE strangers (name TEXT)")
    assert (20,) == connection.execute("PRAGMA busy_timeout").fetchone()
    with closing(sqlite3.connect(world.lake.online_file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        # A user of whom nothing is kept.
        body = asked(request_id="locked", user_id="u2")
        answer = client.post(PREDICT, json=body, headers=headers)
        other.rollback()
    assert (200, True) == (answer.status_code, answer.json()["flags"]["store_failed"])
