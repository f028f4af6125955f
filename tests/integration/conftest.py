"""What many of these tests start from: a lake with a champion, a release of a second version, and
one use case's online states in SQLite and in Redis."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.views import View, ViewRegistry
from serving.app import build_app
from tests.integration.asgi import Client
from tests.integration.moved import three_versions
from tests.integration.releases import Release, build_two, released
from tests.integration.world import World, build, patient
from tests.parity.log import FADING, WIDE
from tests.redis_server import RedisServer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[Client]:
    """Of the application in this process."""
    with Client(build_app(patient(world.root, clock="replay"))) as client:
        yield client


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    """With a second version to release."""
    return build_two(tmp_path_factory.mktemp("released") / "lake")


@pytest.fixture
def release(built: World, tmp_path: Path) -> Iterator[Release]:
    """Of the second version, not begun."""
    with released(built, tmp_path / "lake") as release:
        yield release


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Of three registered versions, to be copied before one is moved."""
    return three_versions(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    """Of every kind of aggregate."""
    clicks = load_use_case("clicks")
    return replace(clicks, declared=replace(clicks.declared, groups=(WIDE, FADING)))


@pytest.fixture(params=["sqlite", "redis"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, use_case: UseCase) -> Lake:
    """Of `use_case`, without a state."""
    lake = Lake(tmp_path / "root", use_case.name)
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        lake = replace(lake, redis=server.address)
    for group in use_case.groups:
        ViewRegistry(lake).put(View(group, "ready"))
    return lake
