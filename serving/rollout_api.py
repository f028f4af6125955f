"""`/{use_case}/v1/rollout` and `/{use_case}/release`: a rollout told, asked for and seen."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.clock import Clock, SystemClock, format_time
from data_contracts.lake import Lake
from data_contracts.ledger import INTENT
from data_contracts.ledger_store import LedgerStore
from data_contracts.rollout_store import RolloutStore
from data_contracts.use_case import UseCase
from serving.auth import Caller, Keys, OpenAccess, demand, key_digest
from serving.body import documented, json_response, read_json, schema_of, validate
from serving.problem import Problem
from serving.rollout_status import Drawn, about, history, replayed, status
from serving.sessions import Session, Sessions
from serving.traffic import measured, needs

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = {
    "": ("release_page.html", "text/html"),
    "/release.js": ("release_page.js", "text/javascript"),
    "/release.css": ("release_page.css", "text/css"),
}
_MOVES = 20
_LOGIN_BYTES = 4096

Access = Callable[[], Keys | OpenAccess]


class RolloutRequest(BaseModel):
    """What the rollout's controller is asked to do; it answers in `requests` of the status."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["start", "advance", "hold", "resume", "abort", "rollback"]
    version: Annotated[str, Field(pattern=r"^[0-9]{1,9}$")] | None = None
    """Which version to release; for `start` alone."""
    reason: Annotated[str, Field(max_length=500, pattern=r"\S")]
    actor: Annotated[str, Field(max_length=100, pattern=r"\S")]
    """Who asks, for the ledger; the name of the key stands beside it."""
    override: bool = False
    """The actor answers for it in place of a gate."""


class Login(BaseModel):
    """A key of role operate, once, for a session's cookie."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[str, Field(min_length=1, max_length=200)]


def add_rollout(app: FastAPI, use_case: UseCase, lake: Lake, keys: Access) -> None:
    """Add the routes of a rollout to the application of a use case."""
    clock: Clock = SystemClock()
    sessions = Sessions(lake.root / "session.secret", use_case.name, clock)
    store = RolloutStore(lake.rollouts, use_case.name)
    drawn = Drawn(store)
    ledger = LedgerStore(lake.ledger)

    def admitted(request: Request) -> tuple[Session | None, Caller]:
        """The session of a page, None for a key, and whose it is; Problem 401 or 403 for neither.
        A session ends with its key."""
        given = {"authorization", "x-api-key"} & {*request.headers}
        session = None if given else sessions.held(request.headers)
        caller = keys().holder(session.key) if session is not None else None
        if caller is None:
            session, caller = None, keys().caller(request.headers)
        demand(caller.roles, "operate", "rollout")
        return session, caller

    def told() -> dict[str, Any]:
        # A move has two rows, its intent and the note that it is done.
        rows = ledger.rows(use_case.name, 2 * _MOVES)
        moves = [row for row in rows if row.kind == INTENT][-_MOVES:]
        found = status(store)
        return {
            **about(use_case),
            **found,
            "steps": list(use_case.declared.rollout.steps),
            "looks": drawn.looks(),
            "plans": history(store, _MOVES),
            "moves": [_move(row.seq, row.time, row.actor, row.said) for row in moves],
        }

    @app.get("/v1/rollout")
    async def rollout(request: Request) -> Response:
        session, _ = admitted(request)
        try:
            found = await asyncio.to_thread(told)
        except LookupError as error:
            raise Problem(HTTPStatus.NOT_FOUND, str(error)) from None
        if session is not None:
            found["csrf"] = sessions.token(session)
        return _fresh(json_response(found))

    async def shown(request: Request, tell: Callable[[], Mapping[str, Any]]) -> Response:
        admitted(request)
        try:
            return _fresh(json_response({**about(use_case), **await asyncio.to_thread(tell)}))
        except ValueError as error:
            raise Problem(HTTPStatus.CONFLICT, str(error)) from None

    @app.get("/v1/rollout/plan")
    async def plan(request: Request) -> Response:
        def tell() -> dict[str, Any]:
            seen = measured(lake)
            needed = needs(use_case, seen)
            return {**needed.as_dict(), "traffic": seen.as_dict()}

        return await shown(request, tell)

    @app.get("/v1/rollout/history")
    async def plans(request: Request) -> Response:
        return await shown(request, lambda: {"plans": history(store)})

    @app.get("/v1/rollout/replay")
    async def replay(request: Request) -> Response:
        def tell() -> dict[str, Any]:
            made, faults = replayed(store)
            return {"decisions": made, "faults": faults}

        return await shown(request, tell)

    @app.post("/v1/rollout", status_code=202, openapi_extra=documented(schema_of(RolloutRequest)))
    async def ask(request: Request) -> Response:
        session, caller = admitted(request)
        if session is not None:
            sessions.check(session, request.headers)
        asked = validate(RolloutRequest, await read_json(request))
        if (asked.action == "start") != (asked.version is not None):
            detail = "version: needed for `start`, and for nothing else"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        number = await asyncio.to_thread(
            store.ask,
            format_time(clock.now()),
            f"{asked.actor} (key {caller.name})",
            asked.action,
            asked.version,
            asked.reason,
            asked.override,
        )
        return json_response({"request": number}, HTTPStatus.ACCEPTED)

    @app.post("/release/session", status_code=204, include_in_schema=False)
    async def login(request: Request) -> Response:
        asked = validate(Login, await read_json(request, _LOGIN_BYTES))
        demand(keys().check({"x-api-key": asked.key}), "operate", "rollout")
        cookie = sessions.begin(key_digest(asked.key), request.url.scheme == "https")
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"set-cookie": cookie})

    @app.delete("/release/session", status_code=204, include_in_schema=False)
    async def logout(request: Request) -> Response:
        session = sessions.held(request.headers)
        if session is not None:
            sessions.check(session, request.headers)
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"set-cookie": sessions.end()})

    for suffix, (name, kind) in _PAGE.items():
        app.add_api_route(f"/release{suffix}", _served(name, kind), include_in_schema=False)


def _served(name: str, kind: str) -> Callable[[], Response]:
    def serve() -> Response:
        content = files("serving").joinpath(name).read_bytes()
        headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff"}
        return _fresh(Response(content, media_type=kind, headers=headers))

    return serve


def _fresh(response: Response) -> Response:
    response.headers["cache-control"] = "no-store"
    return response


def _move(seq: int, time: str, actor: str, said: Mapping[str, Any]) -> dict[str, Any]:
    decided = said["decision"]
    return {
        "row": seq,
        "time": time,
        "actor": actor,
        "action": said["action"],
        "version": said["version"],
        "to": said["to"],
        "verdict": decided["verdict"] if decided else None,
        "override": said["override"],
    }
