"""Errors as RFC 9457 problem details: every answer that is no success has this one shape."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE = "application/problem+json"
TOLD = 100
"""Errors of one body that are told one by one: an answer must not outgrow its question."""
_PATH, _REASON = 200, 1000
"""Characters of each that are shown."""

_log = logging.getLogger(__name__)


class Problem(Exception):
    """An answer with status >= 400; `errors` name single fields, e.g. `candidates.3.item_id`."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers

    def response(self, instance: str) -> Response:
        """The HTTP response for the request path `instance`."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "instance": instance,
        }
        if self.errors:
            body["errors"] = list(self.errors)
        return Response(
            json.dumps(body), self.status.value, dict(self.headers or {}), media_type=MEDIA_TYPE
        )


def unprocessable(errors: Sequence[tuple[str, str]], count: int | None = None) -> Problem:
    """422 for (field path, reason) pairs, e.g. `("candidates.3.item_id", "required")`.

    The first `TOLD` are told, and how many there are: `count`, where `errors` are not all of them.
    """
    count = len(errors) if count is None else count
    found = [
        {"field": field[:_PATH], "reason": reason[:_REASON]} for field, reason in errors[:TOLD]
    ]
    shown = "; ".join(f"{each['field']}: {each['reason']}" for each in found[:5])
    more = f" … and {count - 5} more" if count > 5 else ""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, shown + more, found)


def too_large(most: int) -> Problem:
    """413 for a body of more than `most` bytes."""
    detail = f"body: more than {most} bytes: send fewer or smaller records"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def install(app: FastAPI, max_body_bytes: int, body_s: float) -> None:
    """Make every error of `app` a problem; refuse bodies above the limit with 413, and those that
    are not there after `body_s` seconds with 408."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes, within_s=body_s)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request.url.path)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    path = request.url.path
    match status:
        case HTTPStatus.NOT_FOUND:
            detail = f"{path}: no such path: see /docs and /v1/use-cases"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"{path}: {request.method} is not allowed here: see /docs"
        case _:
            detail = str(error.detail)
    return Problem(status, detail, headers=error.headers).response(path)


async def _unexpected(request: Request, error: Exception) -> Response:
    # The path as it was sent may name a person.
    route = getattr(request.scope.get("route"), "path", "another path")
    _log.error("%s %s failed", request.method, route, exc_info=error)
    detail = f"{type(error).__name__} while answering: the server's log says where (server_log)"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail).response(request.url.path)


class BodyLimit:
    """ASGI middleware: a request body above `max_bytes` is answered 413, declared or not, and one
    that takes longer than `within_s` seconds 408, for whoever waits for it."""

    def __init__(self, app: ASGIApp, max_bytes: int, within_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await too_large(self._max_bytes).response(scope["path"])(scope, receive, send)
            return
        taken, end = 0, asyncio.get_running_loop().time() + self._within_s
        whole = False

        async def limited() -> Message:
            nonlocal taken, whole
            if whole:
                # What comes now is the client's leave, which nobody hurries.
                return await receive()
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            whole = not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise too_large(self._max_bytes)
            return message

        await self._app(scope, limited, send)

    def _too_slow(self) -> Problem:
        detail = f"body: not all of it came within {self._within_s:g} s: send it at once"
        return Problem(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"Connection": "close"})
