"""The server without Ray, around an application that fails."""

import socket
import threading
from contextlib import closing

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from serving.plain import Server


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    """Fails on every request, and quotes its path."""
    raise RuntimeError(f"cannot answer {scope['path']}")


def test_the_text_of_an_error_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    listening = threading.Event()
    config = uvicorn.Config(failing, log_level="warning", lifespan="off")
    server = Server(config, listening.set)
    with closing(socket.create_server(("127.0.0.1", 0))) as port:
        runs = threading.Thread(target=server.run, kwargs={"sockets": [port]})
        runs.start()
        assert listening.wait(20)
        answer = httpx.get(f"http://127.0.0.1:{port.getsockname()[1]}/ada@example.org")
        server.should_exit = True
        runs.join(20)
    assert 500 == answer.status_code
    told = capfd.readouterr().err
    assert "Exception in ASGI application" in told
    assert "ada@example.org" not in told
