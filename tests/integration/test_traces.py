"""Spans of requests, as a collector gets them over OTLP."""

import asyncio
import gzip
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.types import Receive, Scope, Send

from serving.app import build_app
from serving.traces import Traced, Traces
from tests.integration.asgi import Client
from tests.integration.world import World, as_role, asked, patient

CALLER, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(HTTPServer):
    """Takes what is exported."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exported)
        self.taken: list[ExportTraceServiceRequest] = []

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.taken
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Exported(BaseHTTPRequestHandler):
    server: Collector  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert "/v1/traces" == self.path
        self.server.taken.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_request_is_a_span_of_its_caller_s_trace_with_its_parts_below(
    world: World, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    headers = as_role(world.operate)
    with Client(build_app(patient(world.root, clock="replay"))) as client:
        traced = {**headers, "traceparent": f"00-{CALLER}-{PARENT}-01"}
        client.post("/clicks/v1/predict", json=asked(request_id="secret"), headers=traced)
        client.post("/clicks/v1/predict", json={}, headers=headers)
        client.get("/readyz")
    by_name: dict[str, list[Span]] = {}
    for span in sorted(collector.spans, key=lambda span: span.start_time_unix_nano):
        by_name.setdefault(span.name, []).append(span)
    assert ["POST /v1/predict", "features", "queue", "model"] == [*by_name]
    whole, refused = by_name["POST /v1/predict"]
    parts = [by_name[name] for name in ("features", "queue", "model")]
    assert (CALLER, PARENT) == (whole.trace_id.hex(), whole.parent_span_id.hex())
    assert CALLER != refused.trace_id.hex()
    assert [[whole.span_id]] * 3 == [[span.parent_span_id for span in part] for part in parts]
    times = [whole.start_time_unix_nano]
    for (part,) in parts:
        assert part.start_time_unix_nano <= part.end_time_unix_nano
        times.append(part.start_time_unix_nano)
    times += [parts[-1][0].end_time_unix_nano, whole.end_time_unix_nano]
    assert sorted(times) == times
    statuses = [
        each.value.int_value
        for span in (whole, refused)
        for each in span.attributes
        if each.key == "http.response.status_code"
    ]
    assert [200, 422] == statuses
    sent = b"".join(request.SerializeToString() for request in collector.taken)
    assert [] == [word for word in (b"secret", b"u1", world.operate.encode()) if word in sent]


def test_an_error_that_nobody_expected_is_told_by_its_kind_alone(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    traces = Traces("clicks", "r1")

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        with traces.span("features", "1"):
            raise KeyError("secret")

    replica = SimpleNamespace(predictor=SimpleNamespace(traces=traces))
    scope = {
        "type": "http", "method": "POST", "path": "/v1/predict", "scheme": "http",
        "headers": [], "app": SimpleNamespace(state=SimpleNamespace(replica=replica)),
    }  # fmt: skip
    with pytest.raises(KeyError):
        asyncio.run(Traced(fails)(scope, None, None))  # pyright: ignore[reportArgumentType]
    traces.close()
    features, whole = collector.spans
    assert ("features", "POST /v1/predict") == (features.name, whole.name)
    told = {each.key: each.value.string_value for each in whole.attributes}
    assert ("KeyError", Status.STATUS_CODE_ERROR) == (told["error.type"], whole.status.code)
    sent = b"".join(request.SerializeToString() for request in collector.taken)
    assert b"secret" not in sent


def test_a_collector_that_is_away_costs_no_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    headers = as_role(world.operate)
    with Client(build_app(patient(world.root, clock="replay"))) as client:
        assert 200 == client.post("/clicks/v1/predict", json=asked(), headers=headers).status_code


def test_nothing_of_it_is_loaded_where_nobody_asks() -> None:
    program = (
        "import sys, serving.app, serving.replica;"
        "print([name for name in sys.modules if name.startswith('opentelemetry.')"
        " and name.split('.')[1] in ('sdk', 'exporter')])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (0, "[]") == (told.returncode, told.stdout.strip()), told.stderr
