"""What a key's quota is spent on."""

from collections.abc import Iterator

import pytest

from serving.app import build_app
from serving.auth import create_key
from tests.integration.asgi import Client
from tests.integration.test_serving import replica
from tests.integration.world import CLICK, World, asked, patient


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[Client]:
    settings = patient(world.root, max_in_flight=1)
    with Client(build_app(settings)) as client:
        yield client


@pytest.fixture(params=["/clicks/v1/predict", "/clicks/v1/events"])
def path(request: pytest.FixtureRequest) -> str:
    return request.param


def told(client: Client, path: str, key: str) -> str:
    """What comes of a request: its status, and why it was refused."""
    events = path.endswith("events")
    body = CLICK if events else {k: v for k, v in asked().items() if k != "event_time"}
    answer = client.post(path, json=body, headers={"x-api-key": key})
    return str(answer.json().get("detail", "let in"))


def test_what_there_was_no_time_for_costs_nothing_of_the_day(
    client: Client, world: World, path: str
) -> None:
    here = replica(client)
    key = create_key(world.lake.keys, ["predict", "events"], path, quota=2)
    admission = here.collecting if path.endswith("events") else here.admission
    with admission.admitted(60_000):
        shed = [told(client, path, key) for _ in range(5)]
    assert all("1 requests are under way" in each for each in shed)
    assert ["let in"] * 2 == [told(client, path, key) for _ in range(2)]
    assert "its 2 requests of this UTC day are used up" in told(client, path, key)


def test_what_the_rate_refuses_costs_nothing_of_the_day(
    client: Client, world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0] * 6 + [1.0, 2.0])
    monkeypatch.setattr(replica(client).limits, "_monotonic", lambda: next(seconds))
    key = create_key(world.lake.keys, ["predict", "events"], f"slow {path}", rate=1.0, quota=2)
    assert "let in" == told(client, path, key)
    often = [told(client, path, key) for _ in range(5)]
    assert all("more than 1 requests a second" in each for each in often)
    assert "let in" == told(client, path, key)
    assert "its 2 requests of this UTC day are used up" in told(client, path, key)
