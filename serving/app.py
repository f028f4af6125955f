"""The HTTP application of a use case; it knows nothing of Ray."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response

from serving.access_log import AccessLog, LogFile, about
from serving.application import application
from serving.auth import Keys, OpenAccess, demand
from serving.body import documented, json_response, read_json, schema_of, validate
from serving.entrance import Entrance, entered
from serving.events import EventsResponse, events_schema
from serving.explain import asks_reasons
from serving.inference_api import add_inference
from serving.predict_body import PredictResponse, request_model
from serving.replica import Replica, open_replica
from serving.rollout_api import add_rollout
from serving.root import root_app
from serving.settings import Settings
from serving.spans import traced


def use_case_app(settings: Settings, opened: Callable[[], Replica]) -> FastAPI:
    """The application of one use case, served under `/{use_case}`.

    On startup it takes its replica from `opened`, at shutdown it closes it.
    """
    use_case = settings.load()
    access_log = LogFile(settings.lake())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        replica = await asyncio.to_thread(opened)
        replica.begin()
        app.state.replica = replica
        yield
        await replica.close()
        access_log.close()

    app = application(
        settings,
        title=f"Headrace: {use_case.name}",
        description=use_case.declared.description,
        version=use_case.contract.version,
        lifespan=lifespan,
    )
    app.add_middleware(
        Entrance, timeout_ms=settings.timeout_ms, abandons=settings.engine == "plain"
    )
    if traced():
        from serving.traces import Traced

        app.add_middleware(Traced)
    if settings.access_log:
        app.add_middleware(AccessLog, file=access_log)
    model = request_model(use_case, settings.max_candidates)

    @app.post(
        "/v1/predict",
        responses={200: {"model": PredictResponse}},
        openapi_extra=documented(schema_of(model)),
    )
    async def predict(request: Request, explain: str | None = None) -> Response:
        replica: Replica = request.app.state.replica
        admitted = entered(request)
        roles = admitted.caller.roles
        reasons = explain is not None and asks_reasons(explain, roles)
        body = validate(model, await read_json(request))
        about(request, body.request_id)
        answer = replica.predictor.answer(body, roles, admitted.until, explain=reasons)
        return json_response(await answer)

    @app.post(
        "/v1/events",
        status_code=202,
        responses={202: {"model": EventsResponse}},
        openapi_extra=documented(events_schema(use_case.contract, settings.max_events)),
    )
    async def events(request: Request, now: str | None = None) -> Response:
        replica: Replica = request.app.state.replica
        caller = replica.keys.caller(request.headers)
        demand(caller.roles, "events", "events")
        replica.limits.take_rate(caller)
        with replica.collecting.admitted(round(settings.body_s * 1000)) as turn:
            replica.limits.take_quota(caller)
            body = await read_json(request)
            replica.collecting.begin(turn)
            return json_response(await replica.collector.collect(body, caller.roles, now), 202)

    def keys() -> Keys | OpenAccess:
        return app.state.replica.keys

    add_inference(app, use_case, model, settings.max_candidates)
    add_rollout(app, use_case, settings.lake(), keys)
    return app


def build_app(settings: Settings, opened: Callable[[], Replica] | None = None) -> FastAPI:
    """Root and use case in one application for a plain ASGI server, e.g. uvicorn.

    The replica comes from `opened` at the application's startup; it opens one itself without.
    """
    inner = use_case_app(settings, opened or (lambda: open_replica(settings, "local")))

    async def probe() -> Mapping[str, Any] | None:
        replica: Replica | None = getattr(inner.state, "replica", None)
        return replica and replica.status()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with inner.router.lifespan_context(inner):
            yield

    outer = root_app(settings, probe)
    outer.router.lifespan_context = lifespan
    outer.mount(f"/{settings.load().name}", inner)
    return outer
