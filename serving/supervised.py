"""A process that is started again whenever it ends, for as long as this one wants it."""

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence

from serving.settings import Settings

_log = logging.getLogger("serving.instance.supervised")
"""Below the instance's, in whose server log it is told."""

_PAUSE_S = 1.0
_STOP_S = 10.0


class Supervised:
    """Runs `command` with a stdin that closes when it shall end, or when this process dies."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Run it from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End it for good; returns when it is gone. Nothing when it was never started."""
        with self._lock:
            self._ends.set()
            process = self._process
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        while True:
            with self._lock:
                if self._ends.is_set():
                    return
                self._process = process = self._begun()
            if process is not None:
                process.wait()
            self._ends.wait(_PAUSE_S)

    def _begun(self) -> subprocess.Popen[bytes] | None:
        try:
            return subprocess.Popen(self._command, stdin=subprocess.PIPE)
        except OSError:
            # Memory, processes and descriptors may be had again.
            _log.exception("a process was not started, which is tried again in %g s", _PAUSE_S)
            return None


def controller_command(settings: Settings, boot: str) -> list[str]:
    """The command line of the rollout's controller, of the instance with this boot."""
    given = "--settings", settings.model_dump_json(), "--boot", boot
    return [sys.executable, "-m", "serving.controller", *given]
