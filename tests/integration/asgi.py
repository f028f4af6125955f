"""A synchronous client of an application in this process, with its startup and shutdown."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from fastapi import FastAPI

Result = TypeVar("Result")


class Client:
    """`with Client(app) as client: client.get("/healthz")`."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._runner = asyncio.Runner()
        self._lifespan = app.router.lifespan_context(app)
        transport = httpx.ASGITransport(app)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://test")

    def __enter__(self) -> Self:
        self._runner.run(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(self._close())
        self._runner.close()

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self._runner.run(self._client.get(path, **arguments))

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self._runner.run(self._client.post(path, **arguments))

    def forget(self) -> None:
        """Drop the cookies of earlier answers."""
        self._client.cookies.clear()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of a coroutine on the application's own loop."""
        return self._runner.run(work)

    async def _open(self) -> None:
        await self._lifespan.__aenter__()

    async def _close(self) -> None:
        await self._client.aclose()
        await self._lifespan.__aexit__(None, None, None)
