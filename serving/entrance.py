"""Who comes in to be answered by a model: decided before the body is read, so a refusal is cheap.

In this order: the key, its role, its rate, the time that an answer would take, its quota.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, Self

from fastapi import Request, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access_log import bound_for
from serving.admission import Turn, deadline_ms
from serving.auth import Caller, demand
from serving.inference import refusal
from serving.problem import Problem
from serving.replica import Replica

# As Starlette matches its paths, down to what `$` does before a last line break.
_PREDICTS = re.compile(r"^(/v1/predict|/v2/models/[^/]+(?P<version>/versions/[^/]+)?/infer)$")
_ENTERED = "headrace.entered"
_SOON_S = 0.02


@dataclass(frozen=True)
class Entered:
    """A request that was let in."""

    caller: Caller
    until: float
    """When its answer has to be there (s, on the monotonic clock)."""


def entered(request: Request) -> Entered:
    """What the entrance found out about a request to a model."""
    return request.scope[_ENTERED]


class Entrance:
    """ASGI middleware of a use case's application; other paths pass it.

    `abandons`: a request whose client has left is given up here. Ray does that by itself.
    """

    def __init__(self, app: ASGIApp, timeout_ms: int, abandons: bool) -> None:
        self._app = app
        self._timeout_ms = timeout_ms
        self._abandons = abandons

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _asked(scope)
        if asked is None:
            await self._app(scope, receive, send)
            return
        replica: Replica = scope["app"].state.replica

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                replica.statuses[str(message["status"])] += 1
            await send(message)

        try:
            await self._enter(scope, receive, counted, "operate" if asked["version"] else "predict")
        except Problem as problem:
            bound_for(scope, _template(asked))
            answer = _refused(problem, asked[1], scope["path"])
            await answer(scope, receive, counted)
        except Exception:
            # Answered outside of all middleware.
            replica.statuses["500"] += 1
            raise

    async def _enter(
        self, scope: Scope, receive: Receive, send: Send, role: Literal["predict", "operate"]
    ) -> None:
        """Let the application answer within the deadline; Problem where it shall not or did not."""
        replica: Replica = scope["app"].state.replica
        headers: Mapping[str, str] = Headers(scope=scope)
        caller = replica.keys.caller(headers)
        demand(caller.roles, role, "predict")
        replica.limits.take_rate(caller)
        within = deadline_ms(headers, self._timeout_ms)
        scope[_ENTERED] = Entered(caller, time.monotonic() + within / 1000)
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        with replica.admission.admitted(within) as turn, _Leave(receive) as leave:
            replica.limits.take_quota(caller)
            # Those that came meanwhile are counted first: answered in the event loop one after the
            # other, each would seem to be alone, and the others wait where nobody sees them.
            await asyncio.sleep(0)

            async def arriving() -> Message:
                message = await receive()
                if message["type"] == "http.request" and not message.get("more_body", False):
                    replica.admission.begin(turn)
                    if self._abandons:
                        leave.watch()
                return message

            timer = asyncio.timeout(within / 1000)
            try:
                async with timer:
                    await self._app(scope, arriving, noted)
            except TimeoutError:
                if begun or not timer.expired():
                    raise
                raise _late(turn, within) from None
            except asyncio.CancelledError:
                # Nobody is there any more who could be told.
                if not leave.taken:
                    raise


class _Leave:
    """Cancels the request's task when its client leaves; only of one that is not answered soon, for
    a task of its own costs every request."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[None] | None = None
        self.taken = False
        """Whether the client has left, and the request was given up."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for each in (self._timer, self._waiting):
            if each is not None:
                each.cancel()

    def watch(self) -> None:
        """Wait for it, now that the body is there."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_SOON_S, lambda: self._begin(task))

    def _begin(self, task: asyncio.Task[Any]) -> None:
        self._waiting = asyncio.create_task(self._until_gone(task))

    async def _until_gone(self, task: asyncio.Task[Any]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.taken = True
        task.cancel()


def route_of(scope: Scope) -> str | None:
    """The route of a request to a model, with names for what stands in its path; None of others."""
    asked = _asked(scope)
    return asked and _template(asked)


def _asked(scope: Scope) -> re.Match[str] | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path: str = scope["path"]
    return _PREDICTS.match(path.removeprefix(scope.get("root_path", "")))


def _template(asked: re.Match[str]) -> str:
    if asked[1].startswith("/v1/"):
        return asked[1]
    return f"/v2/models/{{name}}{'/versions/{version}' if asked['version'] else ''}/infer"


def _refused(problem: Problem, path: str, instance: str) -> Response:
    return refusal(problem) if path.startswith("/v2/") else problem.response(instance)


def _late(turn: Turn, within_ms: int) -> Problem:
    if turn.began is None:
        detail = f"body: not all of it came within {within_ms} ms: send it at once"
        return Problem(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"Connection": "close"})
    detail = f"not answered within {within_ms} ms: send less at once, allow more time, or try again"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})
