"""Candidates that start at once: forks of a process that has imported all that they need.

`python -m serving.forks` is that process; its stdin is a socket. A start of Python with the engine
takes most of a second of a processor, which a server under load has not to spare.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from serving.niceness import step_aside

_BYTES = 1 << 16
"""Of one message: JSON on a line."""


@dataclass(frozen=True)
class Forked:
    """A process that was started; the descriptors are the caller's to close."""

    pid: int
    stdin: int
    stdout: int


class Forks:
    """Starts candidates; the process that they are forks of begins with the first one."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._lock = threading.Lock()
        self._parent: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False

    def start(self, arguments: Sequence[str]) -> Forked:
        """A process that scores as `candidate.score_until_closed` does with these arguments.

        OSError when there is none within the time that it may take.
        """
        theirs_in, stdin = os.pipe()
        stdout, theirs_out = os.pipe()
        try:
            asked = {"arguments": list(arguments)}
            pid = self._ask(asked, [theirs_in, theirs_out], tries=2)["pid"]
        except BaseException:
            os.close(stdin)
            os.close(stdout)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        return Forked(pid, stdin, stdout)

    def kill(self, forked: Forked) -> None:
        """End a process that `wait` was not called for."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(forked.pid, signal.SIGKILL)

    def wait(self, forked: Forked) -> int | None:
        """The exit code of a process that ends, as `subprocess` has it; None where it cannot be
        known any more."""
        try:
            return self._ask({"wait": forked.pid}, [], tries=1)["code"]
        except OSError:
            return None

    def close(self) -> None:
        """End the process that others are forks of, not them; a start that waits for it fails."""
        self._closed = True
        if (parent := self._parent) is not None:
            # Whoever waits for its answer has the lock.
            parent.kill()
        with self._lock:
            self._end()

    def _ask(self, asked: Mapping[str, Any], descriptors: Sequence[int], tries: int) -> Any:
        with self._lock:
            while True:
                tries -= 1
                try:
                    control = self._open()
                    socket.send_fds(control, [json.dumps(asked).encode() + b"\n"], descriptors)
                    return json.loads(_line(control))
                except OSError:
                    # It was killed: the next one begins anew.
                    self._end()
                    if self._closed or not tries:
                        raise

    def _open(self) -> socket.socket:
        control = self._control or (None if self._closed else self._begin())
        # Whoever closed it while it began found nothing to end.
        if control is None or self._closed:
            raise ConnectionAbortedError("no candidate is started any more")
        return control

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._parent = subprocess.Popen(
                [sys.executable, "-m", "serving.forks"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
            )
        ours.settimeout(self._within_s)
        self._control = ours
        return ours

    def _end(self) -> None:
        if self._control is not None and self._parent is not None:
            self._control.close()
            self._parent.kill()
            self._parent.wait()
        self._control = self._parent = None


def main() -> None:
    """Fork as often as is asked for, until the socket closes."""
    # A terminal's Ctrl-C is for the server, which closes the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nice beside a server under load: its forks are not.
    importing = threading.Thread(target=_import)
    importing.start()
    importing.join()
    from serving.candidate import score_until_closed

    gc.freeze()
    control = socket.socket(fileno=os.dup(0))
    while True:
        text, descriptors, _, _ = socket.recv_fds(control, _BYTES, 2)
        if not text:
            return
        asked = json.loads(text)
        if "wait" in asked:
            answer: dict[str, int | None] = {"code": _code(asked["wait"])}
        else:
            answer = {"pid": os.fork()}
            if answer["pid"] == 0:
                control.close()
                os.dup2(descriptors[0], 0)
                os.dup2(descriptors[1], 1)
                _end_after(partial(score_until_closed, *asked["arguments"]))
            for each in descriptors:
                os.close(each)
        control.sendall(json.dumps(answer).encode() + b"\n")


def _import() -> None:
    step_aside()
    import_module("serving.candidate")


def _end_after(work: Callable[[], None]) -> NoReturn:
    """Do `work` and end this process, whatever it raises, without the parent's clean-up."""
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _code(pid: int) -> int | None:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return None


def _line(control: socket.socket) -> bytes:
    text = b""
    while not text.endswith(b"\n"):
        part = control.recv(_BYTES)
        if not part:
            raise ConnectionResetError("the process that candidates are forks of has ended")
        text += part
    return text


if __name__ == "__main__":
    main()
