"""Traces of requests for predictions, for an OpenTelemetry collector that speaks OTLP over HTTP.

A request is a span with its features, queue and model below it, and itself below the caller's where
that sent `traceparent` (W3C Trace Context). Endpoint, headers, sampler and the like come from the
variables of OpenTelemetry's specification, names of attributes from its semantic conventions for
HTTP. No span holds a request's id, key, path or inputs.
"""

import os
import time
from contextlib import AbstractContextManager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.entrance import route_of
from serving.spans import Untraced

_CARRIED = TraceContextTextMapPropagator()
_VERSION = "headrace.model.version"


class Traces(Untraced):
    """Spans of one replica, sent in batches from a thread of their own."""

    def __init__(self, use_case: str, replica: str) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", "headrace")
        named = {"service.name": name, "headrace.use_case": use_case}
        resource = Resource.create({**named, "service.instance.id": replica})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("headrace")

    def request(self, scope: Scope, route: str) -> AbstractContextManager[Span]:
        """The span of a whole request."""
        headers = Headers(scope=scope)
        return self._tracer.start_as_current_span(
            f"{scope['method']} {route}",
            context=_CARRIED.extract(headers),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": scope["method"],
                "http.route": route,
                "url.scheme": scope["scheme"],
            },
            # An exception's message and stack may quote inputs.
            record_exception=False,
            set_status_on_exception=False,
        )

    def span(self, name: str, version: str) -> AbstractContextManager[object]:
        return self._tracer.start_as_current_span(
            name,
            attributes={_VERSION: version},
            record_exception=False,
            set_status_on_exception=False,
        )

    def spent(self, name: str, version: str, before_ms: float, milliseconds: float) -> None:
        end = time.time_ns() - round(before_ms * 1e6)
        begun = end - round(milliseconds * 1e6)
        self._tracer.start_span(name, attributes={_VERSION: version}, start_time=begun).end(end)

    def close(self) -> None:
        self._provider.shutdown()


class Traced:
    """ASGI middleware of a use case's application, whose replica has `Traces`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = route_of(scope)
        if route is None:
            await self._app(scope, receive, send)
            return
        traces: Traces = scope["app"].state.replica.predictor.traces
        with traces.request(scope, route) as span:

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, noted)
            except Exception as error:
                # Answered outside of this middleware.
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise
