"""`/{use_case}/release`: the page of a rollout, and the sessions that people begin there."""

from collections.abc import Callable
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serving.auth import Access, demand, key_digest
from serving.body import read_json, validate
from serving.sessions import Sessions

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = {
    "": ("release_page.html", "text/html"),
    "/release.js": ("release_page.js", "text/javascript"),
    "/release.css": ("release_page.css", "text/css"),
}
_LOGIN_BYTES = 4096


class Login(BaseModel):
    """A key of role operate, once, for a session's cookie."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[str, Field(min_length=1, max_length=200)]


def add_release_page(app: FastAPI, sessions: Sessions, keys: Access) -> None:
    """Add the page and the routes that begin and end its sessions."""

    @app.post("/release/session", status_code=204, include_in_schema=False)
    async def login(request: Request) -> Response:
        asked = validate(Login, await read_json(request, _LOGIN_BYTES))
        demand(keys().caller({"x-api-key": asked.key}).roles, "operate", "rollout")
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


def fresh(response: Response) -> Response:
    """The response, which nobody is to keep."""
    response.headers["cache-control"] = "no-store"
    return response


def _served(name: str, kind: str) -> Callable[[], Response]:
    def serve() -> Response:
        content = files("serving").joinpath(name).read_bytes()
        headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff"}
        return fresh(Response(content, media_type=kind, headers=headers))

    return serve
