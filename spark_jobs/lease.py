"""One writer per online store: an exclusive lock that the kernel drops when its holder dies."""

import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

_PATIENCE_S = 2.0
"""How long a holder may take from its lock to its name."""

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


class LeaseHeld(RuntimeError):
    """Another process writes."""


@contextmanager
def writer_lease(folder: Path) -> Iterator[None]:
    """Hold the lease of `folder`; LeaseHeld naming its holder, at once, when there is one.

    Whoever holds it may ask for it again within (in the same thread or task): it is the same lease.
    """
    folder = folder.resolve()
    if folder in _held.get():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "writer.lock"
    with open(path, "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said = f"{path}: the lease is held by {_holder(path)}: stop it first"
            raise LeaseHeld(said) from None
        lock.truncate(0)
        lock.write(_name())
        lock.flush()
        token = _held.set(_held.get() | {folder})
        try:
            yield
        finally:
            _held.reset(token)
            lock.truncate(0)


def _name() -> str:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()} ({command[:200]}) since {since}"


def _holder(path: Path) -> str:
    """Its name; a holder that died left its own, and the next one may not have written yet."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        name = path.read_text("utf-8")
        if name and _alive(name):
            return name
        time.sleep(0.01)
    return "a process that has not said its name"


def _alive(name: str) -> bool:
    words = name.split(" ")
    here = len(words) > 3 and words[3] == socket.gethostname()
    return not here or Path(f"/proc/{words[1]}").exists()
