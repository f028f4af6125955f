"""Online state in a Redis that stops, dies and comes back, while a server answers from it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from data_contracts.predictions import SUFFIX, read_log
from serving.app import build_app
from spark_jobs.online_store import move
from tests.integration.asgi import Client
from tests.integration.world import World, as_role, asked, build, patient, write_states
from tests.redis_server import RedisServer

PREDICT = "/clicks/v1/predict"
DEADLINE_MS = 6000


@pytest.fixture
def redis(own_redis: RedisServer) -> Iterator[RedisServer]:
    yield own_redis
    own_redis.go_on()


@pytest.fixture
def world(tmp_path: Path, redis: RedisServer) -> World:
    world = build(tmp_path / "lake")
    # A store in a file, as it was before the move to Redis, must not be taken for the store.
    assert world.lake.online_file.exists()
    in_redis(world, redis)
    return world


def in_redis(world: World, redis: RedisServer) -> None:
    lake = replace(world.lake, redis=redis.address)
    move(lake)
    write_states(world.use_case, lake)


@pytest.fixture
def ask(world: World) -> Iterator[Callable[[str], bool]]:
    """Asks under this request id; whether the answer has its features from the store."""
    headers = {**as_role(world.operate), "x-deadline-ms": str(DEADLINE_MS)}
    with Client(build_app(patient(world.root, clock="replay"))) as client:

        def asked_for(name: str) -> bool:
            answer = client.post(PREDICT, json=asked(request_id=name), headers=headers)
            assert 200 == answer.status_code, answer.text
            flags = answer.json()["flags"]
            assert flags["store_failed"] == flags["defaults_used"]
            return not flags["store_failed"]

        yield asked_for


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end


def test_answers_go_on_with_defaults_while_redis_is_away_and_with_features_once_it_is_back(
    ask: Callable[[str], bool], world: World, redis: RedisServer
) -> None:
    until(lambda: ask("before"))
    redis.kill()
    assert [False] * 5 == [ask(f"dead{i}") for i in range(5)]
    redis.start()
    in_redis(world, redis)
    until(lambda: ask("after"))
    redis.pause()
    assert [False] * 5 == [ask(f"stopped{i}") for i in range(5)]
    redis.go_on()
    until(lambda: ask("again"))
    (log,) = world.lake.prediction_log.glob(f"*{SUFFIX}")
    failed = {r["request_id"] for r in read_log(log).records if r["store_failed"]}
    assert failed >= {f"{why}{i}" for why in ("dead", "stopped") for i in range(5)}
