"""What keeps instances on one machine apart: a short folder, free ports, Ray's environment."""

import random
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDERS = Path("/tmp")
"""Ray and haproxy put sockets deep below an instance's folder, and a path may have 107 bytes."""

HARD_STOP_S = 10
"""A proxy that was told to stop ends after this long, whatever it still has under way."""
_REPLICA_PORTS = 64
_LOWEST, _HIGHEST = 20_000, 32_000
"""Below the range from which Linux takes ports for outgoing connections."""


@dataclass(frozen=True)
class Ports:
    """The ports of one instance; replicas listen on `replicas` … `replicas + 63`."""

    http: int
    metrics: int
    statistics: int
    fallback_http: int
    fallback_grpc: int
    replicas: int


def choose_ports(host: str, http: int) -> Ports:
    """Free ports; `http` 0 means any. OSError naming the port when the wanted one is taken."""
    if http and not _free(host, http):
        raise OSError(f"port {http} on {host} is taken: name another, or 0 for a free one")
    first = _free_range(host, _REPLICA_PORTS + 5)
    return Ports(http or first, first + 1, first + 2, first + 3, first + 4, first + 5)


def environment(folder: Path, ports: Ports) -> dict[str, str]:
    """Environment of the instance's processes; Ray reads it when it is imported."""
    proxy = folder / "h"
    last = ports.replicas + _REPLICA_PORTS
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "30",
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "65",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(HARD_STOP_S),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(folder / "haproxy"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(proxy / "c.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(proxy / "a.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(proxy / "m.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(proxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(proxy / "state"),
        "RAY_SERVE_HAPROXY_LOG_TARGET": str(proxy / "log"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.statistics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports.fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.replicas),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(last),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        # How often a replica says how much it has under way, which replicas come and go by.
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
        # Despite its name, on Linux too: 0 makes Ray take 127.0.0.1 for the node's address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # By default Ray's workers, which answer here, give way to everything else on the machine.
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def write_proxy(folder: Path) -> None:
    """Put the executable in `folder` that Ray starts as its haproxy."""
    path = folder / "haproxy"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m serving.haproxy "$@"\n')
    path.chmod(0o700)


def _free_range(host: str, count: int) -> int:
    for _ in range(100):
        first = random.randrange(_LOWEST, _HIGHEST - count)
        if all(_free(host, first + i) for i in range(count)):
            return first
    raise OSError(f"no {count} free ports in a row between {_LOWEST} and {_HIGHEST} on {host}")


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
