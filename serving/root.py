"""The HTTP application at `/`, beside the use cases: health, readiness, metrics, what is served."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response

from data_contracts.rollout_store import RolloutStore
from serving.application import application
from serving.auth import Keys, OpenAccess, demand
from serving.body import json_response
from serving.metrics import CONTENT_TYPE, exposition
from serving.settings import Settings

Probe = Callable[[], Awaitable[Mapping[str, Any] | None]]
"""The status of a use case's replica, None while it cannot answer."""


def root_app(settings: Settings, probe: Probe) -> FastAPI:
    """The application at `/`: health, readiness, metrics, the use cases, 404 for all else."""
    use_case = settings.load()
    description = "Real-time ML: events in, predictions out"
    app = application(settings, title="Headrace", description=description)

    @app.get("/healthz")
    async def healthz() -> Response:
        """200 while the process answers."""
        return json_response({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        """200 once every use case's bundle is verified and warm, else 503."""
        status = await probe()
        ready = status is not None
        return json_response(
            {"ready": ready, "use_cases": {use_case.name: status}}, 200 if ready else 503
        )

    lake = settings.lake()
    store = RolloutStore(lake.rollouts, use_case.name)
    keys = Keys(lake.keys) if settings.auth else OpenAccess()

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        """The counts of all replicas as one, in Prometheus' text format."""
        roles = keys.caller(request.headers).roles
        if "operate" not in roles:
            demand(roles, "metrics", "metrics")
        return Response(exposition(store, use_case.name, time.time()), media_type=CONTENT_TYPE)

    @app.get("/v1/use-cases")
    async def use_cases() -> Response:
        """What is served here."""
        status = await probe()
        served = {
            "name": use_case.name,
            "description": use_case.declared.description,
            "contract_version": use_case.contract.version,
            "predict": f"/{use_case.name}/v1/predict",
            "events": f"/{use_case.name}/v1/events",
            "docs": f"/{use_case.name}/docs",
            "model": status and status["model"],
            "version": status and status["version"],
        }
        return json_response({"use_cases": [served]})

    return app
