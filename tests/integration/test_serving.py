import json
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from starlette.routing import Mount

from data_contracts.bundle import GRAPH, BundleRefused
from data_contracts.clock import DAY, MINUTE, SECOND, format_time, parse_time
from data_contracts.predictions import prediction_ids, read_log
from serving.app import build_app
from serving.loader import check_definitions
from serving.replica import Replica, open_replica
from tests.integration.asgi import Client
from tests.integration.world import CLICK, NOW, SEQ, World, as_role, asked, patient
from tests.unit.test_landing_log import files_of_at_most


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    settings = patient(world.root, clock="replay", max_body_bytes=20_000, max_events=50)
    with Client(build_app(settings)) as client:
        yield client


def replica(client: Client) -> Replica:
    mount = next(r for r in client.app.routes if getattr(r, "path", "") == "/clicks")
    assert isinstance(mount, Mount)
    return mount.app.state.replica


def last_record(client: Client) -> dict[str, Any]:
    return read_log(replica(client).predictor.log.path).records[-1]


def feature(record: dict[str, Any], name: str, row: int = 0) -> float:
    return dict(zip(record["feature_names"], record["features"][row], strict=True))[name]


def test_the_root_says_what_is_served_and_that_it_is_ready(client: Client) -> None:
    assert {"status": "ok"} == client.get("/healthz").json()
    assert client.get("/readyz").json()["ready"] is True
    (served,) = client.get("/v1/use-cases").json()["use_cases"]
    assert ("clicks", "/clicks/v1/predict", "1") == (
        served["name"], served["predict"], served["version"]
    )  # fmt: skip


def test_the_api_document_names_the_inputs_and_the_event_fields(client: Client) -> None:
    paths = client.get("/clicks/openapi.json").json()["paths"]
    posted = {name: route["post"] for name, route in paths.items() if "post" in route}
    text = {name: json.dumps(route["requestBody"]) for name, route in posted.items()}
    assert all(name in text["/v1/predict"] for name in ("request_id", "candidates", "affinity"))
    assert all(name in text["/v1/events"] for name in ("impression_id", "propensity"))


@pytest.mark.parametrize("prefix", ["", "/clicks"])
def test_the_docs_page_loads_nothing_from_another_host(client: Client, prefix: str) -> None:
    page = client.get(f"{prefix}/docs").text
    assert [] == re.findall(r"https?://|[\"']//", page)
    assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert {"css", "js", "png"} == {name.rsplit(".", 1)[1] for name in assets}
    (api,) = re.findall(r"url: '([^']+)'", page)
    assert f"{prefix}/openapi.json" == api
    assert {200} == {client.get(path).status_code for path in (*assets, api)}
    assert 404 == client.get(f"{prefix}/redoc").status_code


def test_candidates_are_scored_in_order_and_logged_with_what_was_served(
    client: Client, world: World
) -> None:
    body = asked(candidates=[{"item_id": "i1", "position": 1}, {"item_id": "i2"}])
    answer = client.post("/clicks/v1/predict", json=body, headers=as_role(world.operate))
    assert 200 == answer.status_code
    said, record = answer.json(), last_record(client)
    first, second = said["predictions"]
    expected = prediction_ids("clicks", "1", "r1", ["u1\x1fi1", "u1\x1fi2"])
    assert expected == [first["prediction_id"], second["prediction_id"]]
    assert {"user": SEQ, "item": SEQ} == first["state_seq"]
    assert {"user": 1.0, "item": None} == second["features_age_s"]
    assert {"defaults_used": True, "store_failed": False} == said["flags"]
    assert [[SEQ, SEQ], [SEQ, 0]] == record["seqs"]
    assert [first["score"], second["score"]] == record["scores"]
    assert (5.0, 1.0) == (
        feature(record, "user_impressions_10m"), feature(record, "item_clicks_10m")
    )  # fmt: skip
    assert NOW + SECOND == record["q"] == record["q_asked"] == parse_time(said["q"])
    assert ("clicks", "1") == (record["model"], record["version"])
    assert {"features", "queue", "model", "total"} == set(record["latency_ms"])


def test_windows_fall_with_the_query_time(client: Client, world: World) -> None:
    seen: list[float] = []
    for q in (NOW + SECOND, NOW + 9 * MINUTE, NOW + 12 * MINUTE, NOW + 2 * DAY):
        client.post("/clicks/v1/predict", json=asked(q), headers=as_role(world.operate))
        record = last_record(client)
        seen += [feature(record, "user_impressions_10m"), feature(record, "user_impressions_24h")]
    assert [5.0, 5.0, 5.0, 5.0, 0.0, 5.0, 0.0, 0.0] == seen


def test_a_query_before_the_state_is_answered_at_its_as_of(client: Client, world: World) -> None:
    body = asked(NOW - DAY)
    answer = client.post("/clicks/v1/predict", json=body, headers=as_role(world.operate))
    assert NOW == parse_time(answer.json()["q"])
    record = last_record(client)
    assert (NOW - DAY, NOW) == (record["q_asked"], record["q"])


def test_unknown_users_and_items_are_served_the_declared_defaults(
    client: Client, world: World
) -> None:
    body = asked(user_id="nobody", candidates=[{"item_id": "nothing"}])
    answer = client.post("/clicks/v1/predict", json=body, headers=as_role(world.operate))
    assert 200 == answer.status_code
    expected = np.concatenate([group.default_values() for group in world.use_case.groups])
    assert expected.tolist() == last_record(client)["features"][0]


def test_a_field_is_looked_up_in_the_candidate_then_the_context_then_the_request(
    client: Client, world: World
) -> None:
    body = asked(
        position=3,
        affinity=0.5,
        context={"position": 2},
        candidates=[{"item_id": "i1"}, {"item_id": "i2", "position": 1}],
    )
    client.post("/clicks/v1/predict", json=body, headers=as_role(world.operate))
    found = [(row["position"], row["affinity"]) for row in last_record(client)["inputs"]]
    assert [(2, 0.5), (1, 0.5)] == found


def test_a_retry_is_the_same_prediction(client: Client, world: World) -> None:
    answers = [
        client.post("/clicks/v1/predict", json=asked(), headers=as_role(world.operate)).json()
        for _ in range(2)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"candidates": [{"item_id": "a"}, {"item_id": 5}]}, "candidates.1.item_id"),
        ({"candidates": [{"item_id": "a"}, {}]}, "candidates.1.item_id"),
        ({"candidates": [{"item_id": "a", "price": 1}]}, "candidates.0.price"),
        ({"candidates": []}, "candidates"),
        ({"context": {"affinity": -1}}, "context.affinity"),
        ({"user_id": None}, "candidates.0.user_id"),
        ({"request_id": ""}, "request_id"),
        ({"event_time": "1575115201000"}, "event_time"),
    ],
)
def test_wrong_input_is_refused_naming_the_field(
    client: Client, world: World, changes: dict[str, Any], field: str
) -> None:
    body = asked(**changes)
    answer = client.post("/clicks/v1/predict", json=body, headers=as_role(world.operate))
    assert 422 == answer.status_code
    assert "application/problem+json" == answer.headers["content-type"]
    assert [field] == [error["field"] for error in answer.json()["errors"]]


def test_a_refused_request_does_not_move_the_replay_clock(client: Client, world: World) -> None:
    body = asked(NOW + DAY, candidates=[{"item_id": "a"}, {}])
    answer = client.post("/clicks/v1/predict", json=body, headers=as_role(world.operate))
    assert 422 == answer.status_code
    assert 0 == replica(client).predictor.clock.now()
    client.post("/clicks/v1/predict", json=asked(NOW + DAY), headers=as_role(world.operate))
    assert NOW + DAY == replica(client).predictor.clock.now()


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 19_000])
def test_a_body_that_is_not_json_is_a_bad_request(
    client: Client, world: World, body: bytes
) -> None:
    headers = as_role(world.operate)
    for path in ("/clicks/v1/predict", "/clicks/v1/events"):
        answer = client.post(path, content=body, headers=headers)
        assert (400, "Bad Request") == (answer.status_code, answer.json()["title"])


def test_keys_and_roles_are_asked_for(client: Client, world: World) -> None:
    without = client.post("/clicks/v1/predict", content=b"not even json")
    assert (401, "Bearer") == (without.status_code, without.headers["www-authenticate"])
    other = client.post("/clicks/v1/predict", json=asked(), headers=as_role(world.events))
    assert (403, True) == (other.status_code, "'predict'" in other.json()["detail"])
    plain = client.post("/clicks/v1/predict", json=asked(), headers=as_role(world.predict))
    assert (403, True) == (plain.status_code, "event_time needs" in plain.json()["detail"])


def test_event_times_need_the_replay_clock(world: World) -> None:
    with Client(build_app(patient(world.root))) as client:
        headers = as_role(world.operate)
        refused = client.post("/clicks/v1/predict", json=asked(), headers=headers)
        assert (403, True) == (refused.status_code, "clock 'replay'" in refused.json()["detail"])
        body = asked()
        del body["event_time"]
        answer = client.post("/clicks/v1/predict", json=body, headers=headers)
        assert 200 == answer.status_code
        assert parse_time(answer.json()["q"]) > NOW + DAY


@pytest.mark.parametrize("path", ["/nothing", "/clicks/nothing", "/clicks/v1/predict/x"])
def test_an_unknown_path_is_a_problem(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (404, "application/problem+json", path) == (
        answer.status_code, answer.headers["content-type"], answer.json()["instance"]
    )  # fmt: skip


def test_a_body_over_the_limit_is_refused_declared_or_not(client: Client, world: World) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 1000

    for content in (b" " * 30_000, in_pieces()):
        answer = client.post("/clicks/v1/events", content=content, headers=as_role(world.events))
        assert (413, "application/problem+json") == (
            answer.status_code, answer.headers["content-type"]
        )  # fmt: skip


def test_events_are_on_the_disk_with_their_arrival_when_answered(
    client: Client, world: World
) -> None:
    headers = as_role(world.operate)
    own = CLICK | {"event_id": "e2", "arrived_at": format_time(NOW + MINUTE)}
    answer = client.post("/clicks/v1/events", json=[CLICK, own], headers=headers)
    assert 202 == answer.status_code
    said = answer.json()
    data = (world.lake.landing / said["file"]).read_bytes()
    assert (2, len(data)) == (said["accepted"], said["offset"])
    first, second = map(json.loads, data.splitlines())
    assert CLICK | {"arrived_at": CLICK["event_time"]} == first
    assert own == second


def test_an_arrival_is_believed_only_from_role_operate(world: World) -> None:
    with Client(build_app(patient(world.root))) as client:
        claimed = CLICK | {"arrived_at": format_time(NOW - DAY)}
        said = client.post("/clicks/v1/events", json=claimed, headers=as_role(world.events)).json()
    (line,) = (world.lake.landing / said["file"]).read_text().splitlines()
    assert parse_time(json.loads(line)["arrived_at"]) > NOW + DAY


@pytest.mark.parametrize("clock", ["system", "replay"])
def test_an_arrival_in_the_future_is_refused_also_from_role_operate(
    world: World, clock: Literal["system", "replay"]
) -> None:
    with Client(build_app(patient(world.root, clock=clock))) as client:
        before = replica(client).collector.clock.now()
        claimed = CLICK | {"arrived_at": "9999-12-31T00:00:00Z"}
        answer = client.post("/clicks/v1/events", json=claimed, headers=as_role(world.operate))
        assert (422, ["0.arrived_at"]) == (
            answer.status_code, [error["field"] for error in answer.json()["errors"]]
        )  # fmt: skip
        assert b"" == replica(client).collector.log.path.read_bytes()
        assert replica(client).collector.clock.now() - before < DAY


def test_one_invalid_event_refuses_all_and_every_reason_is_listed(
    client: Client, world: World
) -> None:
    late = CLICK | {"event_time": format_time(NOW + DAY), "arrived_at": format_time(NOW)}
    body = [CLICK, 5, CLICK | {"user_id": 1, "colour": "red"}, late]
    answer = client.post("/clicks/v1/events", json=body, headers=as_role(world.operate))
    assert 422 == answer.status_code
    assert {"1", "2.user_id", "2.colour", "3.event_time"} == {
        error["field"] for error in answer.json()["errors"]
    }
    assert b"" == replica(client).collector.log.path.read_bytes()


def test_more_events_than_allowed_are_refused(client: Client, world: World) -> None:
    answer = client.post("/clicks/v1/events", json=[1] * 51, headers=as_role(world.events))
    assert (422, "body") == (answer.status_code, answer.json()["errors"][0]["field"])


def test_a_full_disk_refuses_events_but_not_predictions(client: Client, world: World) -> None:
    headers = as_role(world.operate)
    with files_of_at_most(0):
        events = client.post("/clicks/v1/events", json=CLICK, headers=headers)
        predicted = client.post("/clicks/v1/predict", json=asked(), headers=headers)
    assert (503, "1") == (events.status_code, events.headers["retry-after"])
    assert "the event log cannot be written: try again" == events.json()["detail"]
    assert str(world.root) not in events.text
    assert 200 == predicted.status_code
    status = replica(client).status()
    assert (1, 1) == (status["landing_log_failures"], status["prediction_log_failures"])
    assert 202 == client.post("/clicks/v1/events", json=CLICK, headers=headers).status_code
    client.post("/clicks/v1/predict", json=asked(), headers=headers)
    assert 1 == read_log(replica(client).predictor.log.path).gaps


def test_a_failing_store_gives_flagged_defaults(world: World, tmp_path: Path) -> None:
    root = tmp_path / "lake"
    shutil.copytree(world.root, root)
    with sqlite3.connect(root / "clicks" / "online" / "online.db") as database:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table'"
        for (table,) in database.execute(tables).fetchall():
            database.execute(f'DROP TABLE "{table}"')
    database.close()
    moved = root / "clicks" / "online" / "feature_store.yaml"
    moved.write_text(moved.read_text().replace(str(world.root.resolve()), str(root.resolve())))
    with Client(build_app(patient(root, clock="replay"))) as client:
        before = replica(client).status()["feature_store_failures"]
        answer = client.post("/clicks/v1/predict", json=asked(), headers=as_role(world.operate))
        assert (200, {"defaults_used": True, "store_failed": True}) == (
            answer.status_code, answer.json()["flags"]
        )  # fmt: skip
        assert before + 1 == replica(client).status()["feature_store_failures"]


def test_a_tampered_bundle_refuses_to_start_by_name(world: World) -> None:
    graph = world.bundle / GRAPH
    good = graph.read_bytes()
    graph.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    shutil.rmtree(world.lake.bundles, ignore_errors=True)
    try:
        with pytest.raises(BundleRefused, match=r"clicks version 1: .*model\.onnx: sha256"):
            open_replica(patient(world.root), "r")
    finally:
        graph.write_bytes(good)


def test_without_a_champion_it_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    with pytest.raises(BundleRefused, match="no version has the alias champion"):
        open_replica(patient(tmp_path), "r")


def test_a_model_of_other_inputs_or_contract_is_refused(client: Client, world: World) -> None:
    manifest = replica(client).predictor.arms.now.champion.bundle.manifest
    others = {
        "numeric inputs": replace(manifest, numeric=(("position", 9.0),)),
        "contract digest": replace(manifest, contract_digest="ab"),
    }
    for what, other in others.items():
        with pytest.raises(BundleRefused, match=f"{what}: trained on"):
            check_definitions(world.use_case, other)
    check_definitions(world.use_case, manifest)
