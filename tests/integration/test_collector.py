"""What the collector makes of poison, of odd records and of a replayed log's late ones."""

import json

import pytest

from data_contracts.clock import HOUR, SECOND, format_time
from data_contracts.landing import REPLAYED
from data_contracts.record import parse_record
from serving.app import build_app
from tests.integration.asgi import Client
from tests.integration.world import CLICK, NOW, World, as_role, patient
from tests.poison import MALFORMED, UNHARMED

OF_A_LINE = ("an array", "one byte too long")
"""No records on a line of the log; in a body a list of one event, and space that is not kept."""


def landed(world: World) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(world.lake.landing.glob(f"{REPLAYED}*")))


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


def test_a_late_event_is_taken_where_the_replayed_log_stands(client: Client, world: World) -> None:
    late = CLICK | {"event_id": "late", "arrived_at": format_time(NOW + 30 * HOUR)}
    headers = as_role(world.operate)
    assert 422 == client.post("/clicks/v1/events", json=late, headers=headers).status_code
    path = f"/clicks/v1/events?now={format_time(NOW + 30 * HOUR)}"
    assert 202 == client.post(path, json=late, headers=headers).status_code
    assert late == json.loads(landed(world).splitlines()[-1])
    later = late | {"arrived_at": format_time(NOW + 31 * HOUR)}
    assert 422 == client.post(path, json=later, headers=headers).status_code


def test_where_a_log_stands_is_believed_only_from_role_operate_under_the_replay_clock(
    client: Client, world: World
) -> None:
    path = f"/clicks/v1/events?now={format_time(NOW + SECOND)}"
    answer = client.post(path, json=CLICK, headers=as_role(world.events))
    assert (403, True) == (answer.status_code, "now: needs role operate" in answer.json()["detail"])
    wrong = client.post("/clicks/v1/events?now=1", json=CLICK, headers=as_role(world.operate))
    assert (422, "now") == (wrong.status_code, wrong.json()["errors"][0]["field"])
    with Client(build_app(patient(world.root))) as live:
        assert 403 == live.post(path, json=CLICK, headers=as_role(world.operate)).status_code
