"""One at a time, between the processes of a machine."""

import fcntl
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PAUSE_S = 0.02
"""Between two looks at a lock that is not waited for without end."""


@contextmanager
def locked(path: Path, patience_s: float | None = None) -> Generator[None]:
    """Hold the lock file `path`, made with its folder where missing; waits for whoever holds it,
    without end where `patience_s` is None, and raises TimeoutError after that.

    The kernel lets it go when its holder dies. The file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as lock:
        if patience_s is None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        else:
            deadline = time.monotonic() + patience_s
            while not try_lock(lock):
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{path}: held by another for more than {patience_s:g} s")
                time.sleep(_PAUSE_S)
        yield


def try_lock(lock: IO[str]) -> bool:
    """Whether the open file `lock` could be locked at once; it is held until that is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
