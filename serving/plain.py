"""The server without Ray: one process, uvicorn, the same application."""

import logging
from collections.abc import Callable
from socket import socket

import uvicorn

from serving.app import build_app
from serving.replica import open_replica
from serving.settings import Settings

_GRACE_S = 10
"""How long what is under way may take once the server shall end."""


def _without_traceback(record: logging.LogRecord) -> bool:
    """Of an answer that failed, uvicorn would show the error's text, which may quote inputs; its
    kind and place are in the server's own log."""
    if record.getMessage().startswith("Exception in ASGI application"):
        record.exc_info = None
    return True


class Server(uvicorn.Server):
    """Says when it listens, and shows no error's text."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening
        logging.getLogger("uvicorn.error").addFilter(_without_traceback)

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listening()


def serve(settings: Settings, port: int, ready: Callable[[str], None]) -> None:
    """Serve on `port` until SIGTERM or SIGINT; requests under way are answered first.

    `ready` gets the server's URL once it answers. Raises as `open_replica` does.
    """
    replica = open_replica(settings, "plain")
    scheme = "https" if settings.tls_cert else "http"
    config = uvicorn.Config(
        build_app(settings, lambda: replica),
        host=settings.host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    Server(config, lambda: ready(f"{scheme}://{settings.host}:{port}")).run()
