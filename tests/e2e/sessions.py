"""What a command that ran in a session of its own left behind."""

import subprocess
import threading
import time

GONE_WITHIN_S = 15
"""A JVM whose parent is gone ends by itself, a moment later."""


def left_of_session(leader: int) -> list[str]:
    """The processes of the session that `leader` led which still live after the grace."""
    end, pause = time.monotonic() + GONE_WITHIN_S, threading.Event()
    while (left := _living(leader)) and time.monotonic() < end:
        pause.wait(0.2)
    return left


def _living(leader: int) -> list[str]:
    listed = subprocess.run(
        ["ps", "-o", "pid=,stat=,args=", "-s", str(leader)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return [line for line in listed.stdout.splitlines() if " Z" not in line]
