"""No process left behind: orphans of what this process started become its own, and are ended."""

import contextlib
import ctypes
import os
import select
import signal
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans (Linux; nothing elsewhere)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """The living processes below `pid`, parents first (Linux; empty elsewhere)."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
    return found


def named(pid: int) -> str:
    """What a process is called; empty when it has gone (Linux; empty elsewhere)."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def told(pid: int, number: signal.Signals, within_s: float) -> None:
    """Send a process the signal and wait until it has ended, for so long at most (Linux)."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(process, number)
            select.select([process], [], [], within_s)
        finally:
            os.close(process)


def kill_descendants() -> None:
    """SIGKILL everything below this process and wait until none is left."""
    while pids := descendants(os.getpid()):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # All of them end up as children of this process: wait for one to go, then look again.
        with contextlib.suppress(ChildProcessError):
            os.wait()
