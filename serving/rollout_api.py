"""`/{use_case}/v1/rollout`: a rollout told and asked for; what the release page shows."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.clock import Clock, SystemClock, format_time
from data_contracts.lake import Lake
from data_contracts.ledger import INTENT
from data_contracts.ledger_store import LedgerStore
from data_contracts.rollout import Action, check_asked
from data_contracts.rollout_store import RolloutStore
from data_contracts.use_case import UseCase
from serving.auth import Access, Caller, demand
from serving.body import documented, json_response, read_json, schema_of, validate
from serving.problem import Problem
from serving.release_page import add_release_page, fresh
from serving.rollout_status import Drawn, about, history, replayed, status
from serving.sessions import Session, Sessions
from serving.traffic import measured, needs

_MOVES = 20


class RolloutRequest(BaseModel):
    """What the rollout's controller is asked to do; it answers in `requests` of the status."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    version: Annotated[str, Field(pattern=r"^[0-9]{1,9}$")] | None = None
    """Which version to release; for `start` alone."""
    reason: Annotated[str, Field(max_length=500, pattern=r"\S")]
    actor: Annotated[str, Field(max_length=100, pattern=r"\S")]
    """Who asks, for the ledger; the name of the key stands beside it."""
    override: bool = False
    """The actor answers for it in place of a gate."""


def add_rollout(app: FastAPI, use_case: UseCase, lake: Lake, keys: Access) -> None:
    """Add the routes of a rollout to the application of a use case."""
    clock: Clock = SystemClock()
    sessions = Sessions(lake.root / "session.secret", use_case.name, clock)
    store = RolloutStore(lake.rollouts, use_case.name)
    drawn = Drawn(store)
    ledger = LedgerStore(lake.ledger)

    def admitted(request: Request) -> tuple[Session | None, Caller]:
        return _admitted(request, sessions, keys)

    @app.get("/v1/rollout")
    async def rollout(request: Request) -> Response:
        session, _ = admitted(request)
        try:
            found = await asyncio.to_thread(_overview, use_case, store, ledger, drawn)
        except LookupError as error:
            raise Problem(HTTPStatus.NOT_FOUND, str(error)) from None
        if session is not None:
            found["csrf"] = sessions.token(session)
        return fresh(json_response(found))

    async def shown(request: Request, tell: Callable[[], Mapping[str, Any]]) -> Response:
        admitted(request)
        try:
            return fresh(json_response({**about(use_case), **await asyncio.to_thread(tell)}))
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
        try:
            check_asked(asked.action, asked.version)
        except ValueError as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
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

    add_release_page(app, sessions, keys)


def _admitted(request: Request, sessions: Sessions, keys: Access) -> tuple[Session | None, Caller]:
    """The session of a page, None for a key, and whose it is; Problem 401 or 403 for neither. A
    session ends with its key."""
    given = {"authorization", "x-api-key"} & {*request.headers}
    session = None if given else sessions.held(request.headers)
    caller = keys().holder(session.key) if session is not None else None
    if caller is None:
        session, caller = None, keys().caller(request.headers)
    demand(caller.roles, "operate", "rollout")
    return session, caller


def _overview(
    use_case: UseCase, store: RolloutStore, ledger: LedgerStore, drawn: Drawn
) -> dict[str, Any]:
    """All that the page shows; LookupError before there is a plan."""
    # A move has two rows, its intent and the note that it is done.
    rows = ledger.rows(use_case.name, 2 * _MOVES)
    moves = [row for row in rows if row.kind == INTENT][-_MOVES:]
    return {
        **about(use_case),
        **status(store),
        "steps": list(use_case.declared.rollout.steps),
        "looks": drawn.looks(),
        "plans": history(store, _MOVES),
        "moves": [row.told() for row in moves],
    }
