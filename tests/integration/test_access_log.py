"""What is kept of a request and told to a browser."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from data_contracts.clock import parse_time
from data_contracts.predictions import digest
from serving.app import build_app, use_case_app
from serving.replica import open_replica
from tests.integration.asgi import Client
from tests.integration.world import World, as_role, asked, patient

LINE = {"time", "method", "route", "status", "ms", "request"}


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[Client]:
    with Client(build_app(patient(world.root, clock="replay", access_log=True))) as client:
        yield client


def lines(world: World) -> list[dict[str, Any]]:
    (path,) = world.lake.access_log.iterdir()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_request_leaves_one_line_that_names_nobody(client: Client, world: World) -> None:
    key = as_role(world.operate)
    row = {"name": "user_id", "datatype": "BYTES", "shape": [1], "data": ["u1"]}
    tensors = {"id": "secret", "inputs": [row, {**row, "name": "item_id", "data": ["i1"]}]}
    infer, named = "/clicks/v2/models/clicks/infer", "/clicks/v2/models/anna/versions/7/infer"
    client.post("/clicks/v1/predict?mail=anna", json=asked(request_id="secret"), headers=key)
    client.post(infer, json=tensors, headers=key)
    client.post("/clicks/v1/predict", json=asked(user_id=5), headers=key)
    client.post(named, json=tensors, headers=as_role(world.predict))
    client.post("/clicks/v1/predict", json=asked())
    client.get("/clicks/anna/5")
    client.get("/clicks/v1/rollout", headers=key)
    found = lines(world)
    assert [
        ("POST", "/v1/predict", 200, digest("secret")),
        ("POST", "/v2/models/{name}/infer", 200, digest("secret")),
        ("POST", "/v1/predict", 422, None),
        ("POST", "/v2/models/{name}/versions/{version}/infer", 403, None),
        ("POST", "/v1/predict", 401, None),
        ("GET", "other", 404, None),
        ("GET", "/v1/rollout", 404, None),
    ] == [(line["method"], line["route"], line["status"], line["request"]) for line in found]
    assert all({*line} == LINE and line["ms"] > 0 and parse_time(line["time"]) for line in found)
    text = json.dumps(found)
    assert [] == [word for word in ("secret", "anna", "u1", "i1", world.operate) if word in text]


@pytest.mark.parametrize(
    "path", ["/healthz", "/nothing", "/clicks/docs", "/clicks/v1/predict", "/clicks/release"]
)
def test_every_answer_tells_browsers_to_be_careful_once(client: Client, path: str) -> None:
    headers = client.get(path).headers
    for name, value in (
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ):
        assert [value] == headers.get_list(name)
    assert "strict-transport-security" not in headers
    secured = client.get(f"https://test{path}").headers
    assert ["max-age=31536000"] == secured.get_list("strict-transport-security")


def test_a_use_case_alone_as_under_ray_tells_it_too_whoever_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = patient(world.root)
    app = use_case_app(settings, lambda: open_replica(settings, "alone"))

    def fails(*arguments: Any, **options: Any) -> None:
        raise KeyError

    async def answers() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        body = {k: v for k, v in asked().items() if k != "event_time"}
        key = as_role(world.predict)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as sender:
            return [
                await sender.post("/v1/predict", json=body),
                await sender.post("/v1/predict", json=body, headers={**key, "x-deadline-ms": "?"}),
                await sender.post("/v1/predict", json=body, headers=key),
                await sender.get("/nothing"),
            ]

    with Client(app) as client:
        monkeypatch.setattr(app.state.replica.predictor, "answer", fails)
        found = client.run(answers())
    assert [(401, ["nosniff"]), (400, ["nosniff"]), (500, ["nosniff"]), (404, ["nosniff"])] == [
        (each.status_code, each.headers.get_list("x-content-type-options")) for each in found
    ]
