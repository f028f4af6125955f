"""`headrace serve --plain`: the same answers without Ray, also to Triton's client."""

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tritonclient.utils import InferenceServerException

from data_contracts.clock import SECOND, format_time
from data_contracts.predictions import SUFFIX, read_log
from data_contracts.rollout_store import RolloutStore
from serving.processes import descendants
from serving.running import NotReady, RunningServer, running
from tests.integration.test_instance import wait_until_gone
from tests.integration.world import NOW, World, asked, patient


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[RunningServer]:
    settings = patient(world.root, engine="plain", clock="replay", poll_s=0.2)
    with running(settings) as server:
        yield server


@pytest.fixture
def client(server: RunningServer, world: World) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {world.operate}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


def test_it_answers_and_its_controller_writes_the_first_plan(client: httpx.Client) -> None:
    assert client.get("/readyz").json()["ready"] is True
    answer = client.post("/clicks/v1/predict", json=asked())
    assert (200, "1") == (answer.status_code, answer.json()["version"])
    while (told := client.get("/clicks/v1/rollout")).status_code == 404:
        assert "no plan yet" in told.json()["detail"]
    assert ("steady", "1") == (told.json()["stage"], told.json()["champion"])


def tensors(rows: int = 3, binary: bool = True) -> list[triton.InferInput]:
    users = triton.InferInput("user_id", [rows], "BYTES")
    users.set_data_from_numpy(np.array(["u1"] * rows, np.object_), binary_data=binary)
    items = triton.InferInput("item_id", [rows, 1], "BYTES")
    named = np.array([[f"i{i}"] for i in range(1, rows + 1)], np.object_)
    items.set_data_from_numpy(named, binary_data=binary)
    places = triton.InferInput("position", [rows], "INT64")
    places.set_data_from_numpy(np.arange(1, rows + 1), binary_data=binary)
    return [users, items, places]


@pytest.fixture
def infer(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(f"{server.url.removeprefix('http://')}/clicks")
    yield client
    client.close()


def test_tritons_client_gets_the_scores_of_v1(
    infer: triton.InferenceServerClient, client: httpx.Client, world: World
) -> None:
    key = {"x-api-key": world.operate}
    assert infer.is_server_live() and infer.is_server_ready() and infer.is_model_ready("clicks")
    assert "binary_tensor_data" in infer.get_server_metadata()["extensions"]
    named = {
        each["name"]: each["datatype"] for each in infer.get_model_metadata("clicks")["inputs"]
    }
    assert ("BYTES", "BYTES", "INT64") == tuple(
        named[n] for n in ("user_id", "item_id", "position")
    )
    rows = [{"user_id": "u1", "item_id": f"i{i}", "position": i} for i in (1, 2, 3)]
    expected = client.post("/clicks/v1/predict", json={"request_id": "v1", "candidates": rows})
    scores = [each["score"] for each in expected.json()["predictions"]]
    for binary in (True, False):
        outputs = [
            triton.InferRequestedOutput(name, binary_data=binary)
            for name in ("score", "prediction_id")
        ]
        for wanted in (None, outputs):
            found = infer.infer(
                "clicks", tensors(binary=binary), outputs=wanted, headers=dict(key), request_id="v1"
            )
            assert np.allclose(scores, found.as_numpy("score"), rtol=1e-5)
        ids = [each["prediction_id"] for each in expected.json()["predictions"]]
        assert ids == [str(i.decode() if isinstance(i, bytes) else i)
                       for i in found.as_numpy("prediction_id")]  # fmt: skip


def test_a_version_is_asked_for_by_role_operate_alone(
    infer: triton.InferenceServerClient, world: World
) -> None:
    found = infer.infer("clicks", tensors(), "1", headers={"x-api-key": world.operate})
    assert "1" == found.get_response()["model_version"]
    for version, key, said in (
        ("1", world.predict, "operate"),
        ("7", world.operate, "is not served here"),
    ):
        with pytest.raises(InferenceServerException, match=said):
            infer.infer("clicks", tensors(), version, headers={"x-api-key": key})


BROKEN: list[tuple[Any, dict[str, str], str]] = [
    (b"{", {}, "not JSON"),
    (b"[]", {}, "no JSON object"),
    (b'{"id": "a", "id": "b", "inputs": []}', {}, "'id' stands twice"),
    (b'{"inputs": [NaN]}', {}, "NaN is not JSON"),
    ({"inputs": []}, {}, "inputs: none"),
    ({"inputs": [{"name": "user_id", "datatype": "BYTES", "shape": [2], "data": ["a"]}]}, {},
     "1 elements, its shape says 2"),
    ({"inputs": [{"name": "user_id", "datatype": "FP16", "shape": [1], "data": [1]}]}, {},
     "datatype 'FP16'"),
    ({"inputs": [{"name": "user_id", "datatype": "BYTES", "shape": [-1], "data": ["a"]}]}, {},
     "shape"),
    ({"inputs": [{"name": "user_id", "datatype": "BYTES", "shape": [1],
                  "parameters": {"binary_data_size": 99}}]}, {}, "more than there is"),
    (b"{}", {"Inference-Header-Content-Length": "7"}, "at most 2"),
    ({"inputs": [{"name": "stranger", "datatype": "INT64", "shape": [1], "data": [1]}]}, {},
     "stranger"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "headers", "said"), BROKEN)
def test_what_is_no_request_of_the_protocol_is_refused_in_its_form(
    client: httpx.Client, body: Any, headers: dict[str, str], said: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/clicks/v2/models/clicks/infer", content=content, headers=headers)
    assert answer.status_code in (400, 422)
    assert [*answer.json()] == ["error"] and said in answer.json()["error"]


def test_what_is_under_way_is_answered_before_it_ends(world: World) -> None:
    settings = patient(world.root, engine="plain", clock="replay")
    statuses: list[int] = []
    begun = threading.Event()
    with running(settings) as server:

        def ask() -> None:
            body = asked(candidates=[{"item_id": f"i{i}"} for i in range(1000)])
            with httpx.Client(timeout=30) as client:
                for number in range(400):
                    try:
                        answer = client.post(
                            f"{server.url}/clicks/v1/predict",
                            json={**body, "request_id": f"d{number}"},
                            headers={"x-api-key": world.operate},
                        )
                    except httpx.TransportError:
                        return
                    statuses.append(answer.status_code)
                    if number == 3:
                        begun.set()

        asking = threading.Thread(target=ask)
        asking.start()
        begun.wait(60)
        os.kill(server.pid, signal.SIGTERM)
        asking.join()
    assert 3 < len(statuses) and {200} == {*statuses}
    logged = [read_log(path) for path in world.lake.prediction_log.glob(f"*{SUFFIX}")]
    drained = [r["request_id"] for log in logged for r in log.records if r["request_id"][0] == "d"]
    assert [f"d{i}" for i in range(len(statuses))] == drained
    assert {0} == {log.gaps for log in logged}
    last = RolloutStore(world.lake.rollouts, "clicks").reports()
    assert len(statuses) in {report.body["answered"] for report in last if report.body["ended"]}


def certified(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that it signed itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "headrace")])
    here = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1))
    builder = builder.not_valid_after(now + timedelta(days=1)).add_extension(here, critical=False)
    signed = builder.sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    certificate, secret = folder / "server.pem", folder / "server.key"
    certificate.write_bytes(signed.public_bytes(pem))
    secret.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return certificate, secret


def test_with_a_certificate_it_speaks_tls_alone_and_the_session_s_cookie_is_secure(
    world: World, tmp_path: Path
) -> None:
    certificate, secret = certified(tmp_path)
    settings = patient(world.root, engine="plain", tls_cert=certificate, tls_key=secret)
    with running(settings) as server:
        assert server.url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=server.url, verify=trusted, timeout=30) as client:
            body = {k: v for k, v in asked().items() if k != "event_time"}
            answer = client.post(
                "/clicks/v1/predict", json=body, headers={"x-api-key": world.predict}
            )
            login = client.post("/clicks/release/session", json={"key": world.operate})
        with pytest.raises(httpx.ConnectError, match="self-signed certificate"):
            httpx.get(f"{server.url}/healthz")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{server.url.replace('https', 'http')}/healthz")
    assert (200, 204) == (answer.status_code, login.status_code)
    assert "; Secure" in login.headers["set-cookie"]
    assert "strict-transport-security" in answer.headers


def test_a_server_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    with (
        pytest.raises(NotReady, match="no version has the alias champion"),
        running(patient(tmp_path, engine="plain")),
    ):
        pass


def test_it_takes_its_controller_along_when_its_parent_dies(world: World) -> None:
    settings = patient(world.root, engine="plain").model_dump_json()
    command = [sys.executable, "-m", "serving.instance", "--until-stdin-closes"]
    with subprocess.Popen(
        [*command, "--settings", settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        assert json.loads(process.stdout.readline())["ready"]
        while not (children := descendants(process.pid)):
            assert process.poll() is None
        process.stdin.close()
        wait_until_gone([process.pid, *children])


def test_a_client_may_shorten_its_deadline_but_not_make_sense_of_nonsense(
    client: httpx.Client,
) -> None:
    for text, status in (("30000", 200), ("0", 400), ("-1", 400), ("soon", 400), ("1e3", 400)):
        answer = client.post("/clicks/v1/predict", json=asked(), headers={"x-deadline-ms": text})
        assert status == answer.status_code
    # To send and read this many candidates takes longer than the millisecond that they are given.
    many = [{"item_id": f"i{i}", "position": 1} for i in range(1000)]
    late = asked(event_time=format_time(NOW + SECOND), candidates=many)
    answer = client.post("/clicks/v1/predict", json=late, headers={"x-deadline-ms": "1"})
    assert answer.status_code in (408, 503)
