"""The HTTP application at `/`, beside the use cases: health, readiness, what is served."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Response

from serving.application import application
from serving.body import json_response
from serving.settings import Settings

Probe = Callable[[], Awaitable[Mapping[str, Any] | None]]
"""The status of a use case's replica, None while it cannot answer."""


def root_app(settings: Settings, probe: Probe) -> FastAPI:
    """The application at `/`: health, readiness, the list of use cases, 404 for all else."""
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
