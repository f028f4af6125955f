"""Poison sent to the collector: a 4xx that names what is wrong, never a 500, nothing in the log."""

from collections.abc import Iterator

import pytest

from data_contracts.landing import GROWING
from data_contracts.record import parse_record
from serving.app import build_app
from serving.settings import Settings
from tests.integration.asgi import Client
from tests.integration.world import World, as_role, build
from tests.poison import MALFORMED, UNHARMED

OF_A_LINE = ("an array", "one byte too long")
"""No records on a line of the log; in a body a list of one event, and space that is not kept."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[Client]:
    with Client(build_app(Settings(root=world.root, clock="replay"))) as client:
        yield client


def landed(world: World) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(world.lake.landing.glob(f"{GROWING}*")))


@pytest.mark.parametrize("kind", [kind for kind in MALFORMED if kind not in OF_A_LINE])
def test_a_malformed_record_is_refused_in_words_and_leaves_nothing(
    client: Client, world: World, kind: str
) -> None:
    body, _ = MALFORMED[kind]
    before = landed(world)
    answer = client.post("/clicks/v1/events", content=body, headers=as_role(world.operate))
    assert answer.status_code in (400, 413, 422), answer.text
    assert "application/problem+json" == answer.headers["content-type"]
    said = answer.json()
    assert said["detail"]
    if 422 == answer.status_code:
        assert all(error["field"] and error["reason"] for error in said["errors"])
    assert before == landed(world)


@pytest.mark.parametrize("kind", [*OF_A_LINE, *UNHARMED])
def test_what_is_accepted_is_an_event_of_the_contract(
    client: Client, world: World, kind: str
) -> None:
    body = UNHARMED.get(kind) or MALFORMED[kind][0]
    before = landed(world)
    answer = client.post("/clicks/v1/events", content=body, headers=as_role(world.operate))
    assert (202, 1) == (answer.status_code, answer.json()["accepted"])
    (line,) = landed(world).removeprefix(before).splitlines()
    assert "e1" == parse_record(world.use_case.contract, line)["event_id"]
