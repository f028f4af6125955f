"""A load generator in a process of its own: `python -m tests.benchmarks.load URL BODIES MODE …`.

HTTP/1.1 over plain asyncio streams, so that it takes little of the machine that it shares with the
server. `closed N`: N connections, each sends when it was answered. `open R`: R requests a second at
Poisson times, whatever the answers do; latency counts from the time a request was due. SIGTERM ends
it early: nothing more is sent.
"""

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

_CONNECTIONS = 64
"""Of an open loop; a request that finds none free waits, and its latency counts that."""


@dataclass
class Load:
    """What came of the requests."""

    latencies: list[float] = field(default_factory=list[float])
    """ms of those answered with 200."""
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    failures: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Of those answered otherwise or not at all: `id`, `status`, when each `began` and `ended`
    (s since 1970)."""
    seconds: float = 0.0

    def note(self, name: str, status: str, began: float, due: float) -> None:
        """Count a request that was sent at `began` and was `due` then (monotonic, s)."""
        now = time.monotonic()
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == "200":
            self.latencies.append((now - due) * 1000)
        else:
            ended = time.time()
            failed = {"began": ended - (now - began), "ended": ended}
            self.failures.append({"id": name, "status": status, **failed})

    def said(self) -> dict[str, Any]:
        """JSON-ready."""
        good = np.array(self.latencies or [float("nan")])
        return {
            "requests": sum(self.statuses.values()),
            "statuses": self.statuses,
            "failures": self.failures,
            "seconds": round(self.seconds, 3),
            "rps": round(len(self.latencies) / self.seconds, 1),
            "p50_ms": round(float(np.quantile(good, 0.5)), 2),
            "p99_ms": round(float(np.quantile(good, 0.99)), 2),
        }


class Connection:
    """One connection, opened again when the server closes it."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        lines = {"Host": parts.netloc, "Content-Type": "application/json", **headers}
        said = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._head = f"POST {parts.path} HTTP/1.1\r\n{said}Content-Length: "
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, body: bytes) -> str:
        """The status, or the name of what went wrong."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            writer.write(f"{self._head}{len(body)}\r\n\r\n".encode() + body)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            await reader.readexactly(length)
            if "connection: close" in head:
                self._close()
            return head.split(" ", 2)[1]
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self._close()
            return type(error).__name__

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


Body = tuple[str, bytes]
"""Request id and body."""


async def closed(
    url: str, bodies: Iterator[Body], connections: int, seconds: float, headers: dict[str, str]
) -> Load:
    """`connections` requests under way at any time."""
    load, end, stopped = Load(), time.monotonic() + seconds, _stopped()

    async def one_after_another() -> None:
        connection = Connection(url, headers)
        while time.monotonic() < end and not stopped.is_set():
            (name, body), began = next(bodies), time.monotonic()
            load.note(name, await connection.send(body), began, began)

    began = time.monotonic()
    await asyncio.gather(*(one_after_another() for _ in range(connections)))
    load.seconds = time.monotonic() - began
    return load


async def opened(
    url: str, bodies: Iterator[Body], rate: float, seconds: float, headers: dict[str, str]
) -> Load:
    """`rate` requests a second, on average."""
    load, draw = Load(), random.Random(7)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(_CONNECTIONS):
        free.put_nowait(Connection(url, headers))

    async def one(due: float, name: str, body: bytes) -> None:
        connection = await free.get()
        began = time.monotonic()
        load.note(name, await connection.send(body), began, due)
        free.put_nowait(connection)

    stopped = _stopped()
    tasks: list[asyncio.Task[None]] = []
    began = due = time.monotonic()
    while due < began + seconds:
        # The loop's clock is the monotonic one.
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await stopped.wait()
                break
        tasks.append(asyncio.create_task(one(due, *next(bodies))))
        due += draw.expovariate(rate)
    await asyncio.gather(*tasks)
    load.seconds = time.monotonic() - began
    return load


def _stopped() -> asyncio.Event:
    """Set by SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    return stopped


def main(url: str, bodies: str, mode: str, value: str, seconds: str, *headers: str) -> None:
    """Print what came of it as JSON; `headers` as `name: value`."""
    said = dict(header.split(": ", 1) for header in headers)
    sent = cycle(line.encode() for line in Path(bodies).read_text().splitlines())
    work = (
        closed(url, _fresh(sent), int(value), float(seconds), said)
        if mode == "closed"
        else opened(url, _fresh(sent), float(value), float(seconds), said)
    )
    print(json.dumps(asyncio.run(work).said()))


def _fresh(bodies: Iterator[bytes]) -> Iterator[Body]:
    """The bodies, each under a request id of its own."""
    for number, body in enumerate(bodies):
        name = f"{time.time_ns():x}-{number}"
        yield name, body.replace(b"REQUEST", name.encode(), 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
