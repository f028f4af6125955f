"""One JSON line a request: what was asked of which route, and how it went; nothing of anybody.

No key, body, header, query or path as it was sent: a path's names could be a person's.
"""

import json
import logging
import time
from collections.abc import Mapping
from logging.handlers import RotatingFileHandler
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data_contracts.clock import format_time
from data_contracts.lake import Lake
from data_contracts.predictions import digest
from serving.replica import Replica

_log = logging.getLogger(__name__)

_BYTES, _KEPT = 16 << 20, 3
"""Of one file, and how many older ones of a replica stay."""
_ROUTE, _REQUEST = "headrace.route", "headrace.request"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""In place of a method that is none of these, and of a route where none answered."""


def about(request: Request, request_id: str) -> None:
    """Let the request's line carry a digest of its id, by which a client's question finds it."""
    request.scope[_REQUEST] = digest(request_id)


def bound_for(scope: Scope, route: str) -> None:
    """Say which route a request would have taken that is refused before."""
    scope[_ROUTE] = route


class LogFile:
    """The lines of one replica; a disk that takes none costs the line, told on stderr."""

    def __init__(self, lake: Lake) -> None:
        self._folder = lake.access_log
        self._file: RotatingFileHandler | None = None

    def write(self, replica: Replica, line: Mapping[str, Any]) -> None:
        """Add a line; with the first one the replica's file begins."""
        try:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                path = self._folder / f"{replica.name}-{replica.boot}.jsonl"
                self._file = RotatingFileHandler(path, maxBytes=_BYTES, backupCount=_KEPT)
        except OSError:
            _log.exception("access log: a line is lost")
            return
        self._file.handle(logging.makeLogRecord({"msg": json.dumps(line)}))

    def close(self) -> None:
        """Nothing is written any more."""
        if self._file is not None:
            self._file.close()


class AccessLog:
    """ASGI middleware of a use case's application."""

    def __init__(self, app: ASGIApp, file: LogFile) -> None:
        self._app = app
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived, started = time.time_ns() // 1000, time.perf_counter()
        status: int | None = None

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            status = status or 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", None) or scope.get(_ROUTE, OTHER)
            line = {
                "time": format_time(arrived),
                "method": scope["method"] if scope["method"] in _METHODS else OTHER,
                "route": route,
                "status": status,
                "ms": round((time.perf_counter() - started) * 1000, 3),
                "request": scope.get(_REQUEST),
            }
            self._file.write(scope["app"].state.replica, line)
