"""One writer per online store: an exclusive lock that the kernel drops when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LeaseHeld(RuntimeError):
    """Another process writes."""


@contextmanager
def writer_lease(folder: Path) -> Iterator[None]:
    """Hold the lease of `folder`; raises LeaseHeld at once when another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "writer.lock"
    with open(path, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise LeaseHeld(f"{path}: the lease is held by {holder}: stop it first") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield
