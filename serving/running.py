"""A serving instance as a child of this process, which it does not outlive."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NoReturn

from serving.instance import FAILED
from serving.settings import Settings

_READY_S = 240.0
_STOP_S = 60.0
_TAIL_LINES = 30


class NotReady(RuntimeError):
    """The server did not become ready; the message says why, or ends with the tail of its log."""


@dataclass(frozen=True)
class RunningServer:
    """A server that answered `/readyz`."""

    url: str
    pid: int
    process: subprocess.Popen[bytes]
    log: str
    """Path of what it writes while it runs."""

    def wait(self) -> NoReturn:
        """Return never: RuntimeError, which says why, once the server has ended by itself."""
        raise RuntimeError(_why(self.process.wait(), self.log))

    def stop(self) -> None:
        """End the server and everything it started; returns when it is gone."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def running(settings: Settings) -> Generator[RunningServer]:
    """Start a server and yield it once it is ready, within four minutes; stop it after.

    Raises NotReady with the tail of the server's log when it does not get there.
    """
    with tempfile.NamedTemporaryFile(prefix="headrace-serving-", suffix=".log") as log:
        process = _spawn(settings, log.file)
        server = RunningServer("", process.pid, process, log.name)
        try:
            answer = _first_line(process)
            if answer is None:
                raise NotReady(f"server not ready within {_READY_S:g} s:\n{_tail(log.name)}")
            if not answer:
                raise NotReady(_why(process.wait(), log.name))
            yield replace(server, url=json.loads(answer)["url"])
        finally:
            server.stop()


def _spawn(settings: Settings, log: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "serving.instance", "--until-stdin-closes"]
    return subprocess.Popen(
        [*command, "--settings", settings.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    )


def _first_line(process: subprocess.Popen[bytes]) -> bytes | None:
    """The first line of its stdout: empty when it ended without one, None when time ran out."""
    stdout: IO[bytes] | None = process.stdout
    assert stdout is not None
    end = time.monotonic() + _READY_S
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        if not selector.select(max(0.0, end - time.monotonic())):
            return None
    return stdout.readline()


def _why(code: int, path: str) -> str:
    """What the server said of its end; the tail of its log where it said nothing."""
    said = [line for line in Path(path).read_text(errors="replace").splitlines() if FAILED in line]
    if said:
        return said[-1].split(FAILED, 1)[1]
    return f"server ended with {code}:\n{_tail(path)}"


def _tail(path: str) -> str:
    lines = Path(path).read_text(errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])
