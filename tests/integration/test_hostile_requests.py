"""Requests drawn from the API's documents and against them: no 5xx, no hang, one form of error."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from requests import Session
from schemathesis import GenerationMode

from data_contracts.clock import SystemClock
from data_contracts.predictions import SUFFIX, read_log
from serving.running import RunningServer, running
from serving.sessions import Sessions
from tests.integration.world import World, as_role, patient

CASES = 1000
"""Of a caller, at least."""
EACH = 150
"""Cases of an operation, a kind of data and a caller."""
FEW = 5
"""The same, of the operations of a use case, each time that the tests are run."""
HANG_S = 10
INFER = "/clicks/v2/models/clicks/infer"
TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"enum": ["user_id", "item_id", "position", "affinity", "stranger"]},
        "datatype": {"enum": ["BYTES", "INT64", "FP32", "FP64", "BOOL", "UINT8", "FP16"]},
        "shape": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        "data": {"type": "array", "items": {}},
        "parameters": {
            "type": "object",
            "properties": {"binary_data_size": {"type": "integer"}, "binary_data": {}},
        },
    },
}
INFERENCE = {
    "openapi": "3.1.0",
    "info": {"title": "Open Inference Protocol v2", "version": "2"},
    "paths": {
        INFER: {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["inputs"],
                                "properties": {
                                    "id": {"type": "string"},
                                    "inputs": {"type": "array", "items": TENSOR, "minItems": 1},
                                    "outputs": {"type": "array"},
                                    "parameters": {"type": "object"},
                                },
                            }
                        }
                    },
                },
                "responses": {"200": {"description": "scores"}},
            }
        }
    },
}
drawn = settings(
    max_examples=EACH,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[*HealthCheck],
)


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[RunningServer]:
    with running(patient(world.root, engine="plain", timeout_ms=9_000)) as server:
        yield server


def callers(world: World) -> dict[str, dict[str, str]]:
    return {"nobody": {}, "operate": as_role(world.operate)}


def documents(url: str) -> Iterator[tuple[str, Any]]:
    """Where a document's paths begin, and the document."""
    for base in (url, f"{url}/clicks"):
        yield base, httpx.get(f"{base}/openapi.json").json()
    yield url, INFERENCE


def judged(response: Any, path: str) -> str | None:
    """What is wrong with an answer."""
    if response.status_code >= 500:
        return f"{response.status_code}: {response.text[:300]}"
    if response.status_code < 400:
        return None
    said = response.json()
    if path.startswith("/v2") or "/v2/" in path:
        return None if [*said] == ["error"] else f"not the protocol's error: {said}"
    kind = response.headers["content-type"]
    kind = kind[0] if isinstance(kind, list) else kind
    return None if kind == "application/problem+json" else f"{kind}: {said}"


@pytest.mark.full
@pytest.mark.faults
@pytest.mark.parametrize("caller", ["nobody", "operate"])
def test_no_drawn_request_fails_the_server_or_hangs(
    server: RunningServer, world: World, caller: str
) -> None:
    headers, statuses = callers(world)[caller], Counter[int]()
    with Session() as session:
        for base, document in documents(server.url):
            schema = schemathesis.openapi.from_dict(document)
            for found in schema.get_all_operations():
                operation = found.ok()
                takes_nothing = not [*operation.body, *operation.iter_parameters()]
                for mode in [GenerationMode.POSITIVE] if takes_nothing else GenerationMode:
                    statuses += drawn_from(operation, mode, base, headers, session)
    assert CASES <= statuses.total(), statuses
    assert ({200, 202, 400, 403, 422} if caller == "operate" else {200, 401}) <= {*statuses}
    assert httpx.get(f"{server.url}/readyz").json()["ready"]


@pytest.mark.parametrize("caller", ["nobody", "operate"])
def test_few_drawn_requests_fail_no_server(
    server: RunningServer, world: World, caller: str
) -> None:
    statuses, headers = Counter[int](), callers(world)[caller]
    few = settings(drawn, max_examples=FEW)
    with Session() as session:
        base, document = [*documents(server.url)][1]
        for found in schemathesis.openapi.from_dict(document).get_all_operations():
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                operation = found.ok()
                if operation.body:
                    statuses += drawn_from(operation, mode, base, headers, session, few)
    assert statuses.total() >= 4 * FEW, statuses
    assert {*statuses} > {422} if caller == "operate" else {*statuses} == {401}, statuses


def drawn_from(
    operation: Any,
    mode: GenerationMode,
    base: str,
    headers: Mapping[str, str],
    session: Session,
    drawn: settings = drawn,
) -> Counter[int]:
    statuses = Counter[int]()

    @drawn
    @given(case=operation.as_strategy(generation_mode=mode))
    def asked(case: Any) -> None:
        response = case.call(base, session, dict(headers), timeout=HANG_S)
        statuses[response.status_code] += 1
        wrong = judged(response, operation.path)
        assert wrong is None, f"{wrong}\n{case.as_curl_command()}"

    asked()
    return statuses


@pytest.mark.full
@pytest.mark.faults
def test_no_bytes_fail_the_protocols_reader(server: RunningServer, world: World) -> None:
    heads = st.sampled_from(
        [
            b'{"inputs":[{"name":"user_id","datatype":"BYTES","shape":[1],'
            b'"parameters":{"binary_data_size":%d}}]}' % size
            for size in (-1, 0, 1, 4, 8, 1 << 40)
        ]
    )
    with httpx.Client(base_url=server.url, timeout=HANG_S) as client:

        @drawn
        @given(head=heads, tail=st.binary(max_size=64), shift=st.integers(-3, 3))
        def asked(head: bytes, tail: bytes, shift: int) -> None:
            length = {"Inference-Header-Content-Length": str(len(head) + shift)}
            answer = client.post(
                INFER, content=head + tail, headers=as_role(world.operate) | length
            )
            assert None is judged(answer, INFER)

        asked()


@pytest.mark.parametrize(
    "many", [12 * FEW, pytest.param(EACH, marks=[pytest.mark.full, pytest.mark.faults])]
)
def test_outputs_that_there_are_not_are_refused_before_anything_is_answered(
    server: RunningServer, world: World, many: int
) -> None:
    named = st.sampled_from(["score", "prediction_id", "rank", "name", "parameters", "binary_data"])
    leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | named
    drawn_json = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(named, inner, max_size=3),
        max_leaves=6,
    )
    keys = [{"name": name, "datatype": "BYTES", "shape": [1], "data": ["x"]}
            for name in ("user_id", "item_id")]  # fmt: skip
    statuses, before = Counter[int](), recorded(world)
    with httpx.Client(base_url=server.url, timeout=HANG_S) as client:

        @settings(drawn, max_examples=many, phases=[Phase.explicit, Phase.generate])
        @example([[]], None)
        @example([{"name": []}], {})
        @example(["score"], {"binary_data_output": True})
        @given(outputs=drawn_json, parameters=drawn_json)
        def asked(outputs: Any, parameters: Any) -> None:
            body = {"inputs": keys, "outputs": outputs, "parameters": parameters}
            answer = client.post(INFER, json=body, headers=as_role(world.operate))
            statuses[answer.status_code] += 1
            assert None is judged(answer, INFER)

        asked()
    assert {200, 400} == {*statuses}
    assert statuses[200] == recorded(world) - before


def recorded(world: World) -> int:
    """Answers that the prediction logs hold."""
    return sum(len(read_log(p).records) for p in world.lake.prediction_log.glob(f"*{SUFFIX}"))


@pytest.mark.parametrize(
    "many", [12 * FEW, pytest.param(EACH, marks=[pytest.mark.full, pytest.mark.faults])]
)
def test_hostile_ids_are_scored_or_refused(server: RunningServer, world: World, many: int) -> None:
    texts = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(
        [
            "",
            "\x00",
            "\ud800",
            "\x1f",
            "../../x",
            "a\x1fb",
            "{}",
            "'; DROP TABLE x;--",
            "u" * 70_000,
        ]
    )
    numbers = st.integers() | st.floats() | st.booleans() | st.none() | texts
    rows = st.fixed_dictionaries(
        {"item_id": texts}, optional={"position": numbers, "affinity": numbers, "user_id": texts}
    )
    statuses = Counter[int]()
    with httpx.Client(base_url=server.url, timeout=HANG_S) as client:

        @settings(drawn, max_examples=many)
        @given(name=texts, user=texts, candidates=st.lists(rows, min_size=1, max_size=5))
        def asked(name: str, user: str, candidates: list[dict[str, Any]]) -> None:
            body = {"request_id": name or "r", "user_id": user, "candidates": candidates}
            answer = client.post(
                "/clicks/v1/predict", content=json.dumps(body), headers=as_role(world.operate)
            )
            statuses[answer.status_code] += 1
            assert None is judged(answer, "/v1/predict")

        asked()
    assert {200, 422} <= {*statuses}


@pytest.mark.full
@pytest.mark.faults
def test_hostile_headers_are_no_failure(server: RunningServer, world: World) -> None:
    names = ("cookie", "authorization", "x-api-key", "x-deadline-ms", "x-csrf-token")
    printable = st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")
    texts = st.text(printable, max_size=30).map(lambda text: text.strip().encode("latin-1"))
    secret = world.lake.root / "session.secret"
    cookie = Sessions(secret, world.use_case.name, SystemClock()).cookie.encode()
    values = texts | st.builds(
        lambda text: cookie + b'="' + text.replace(b'"', b"") + b"." + text + b'"', texts
    )
    paths = st.sampled_from(
        [
            "/clicks/v1/predict",
            "/clicks/v1/rollout",
            "/clicks/release/session",
            INFER,
            "/clicks/release",
        ]
    )
    with httpx.Client(base_url=server.url, timeout=HANG_S) as client:

        @drawn
        @given(path=paths, headers=st.dictionaries(st.sampled_from(names), values))
        def asked(path: str, headers: dict[str, bytes]) -> None:
            raw = [(name.encode(), value) for name, value in headers.items()]
            for method in ("GET", "POST"):
                answer = client.request(method, path, headers=raw, content=b"{}")
                assert answer.status_code < 500, answer.text

        asked()
