"""What the applications of root and use cases share: errors as problems, docs without a network."""

from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from serving.problem import install
from serving.security import SecurityHeaders
from serving.settings import Settings


def application(settings: Settings, **about: Any) -> FastAPI:
    """An application with `about` as FastAPI takes it (title, description, version, lifespan).

    Every error is a problem, bodies are limited in size and time, `/docs` loads nothing from
    another host, and browsers are told to be careful.
    """
    app = FastAPIOffline(redoc_url=None, **about)
    install(app, settings.max_body_bytes, settings.body_s)
    inner = app.build_middleware_stack
    # Outside of whatever else answers: middleware that is added later, and Starlette's own for
    # what failed.
    app.build_middleware_stack = lambda: SecurityHeaders(inner())
    return app
