"""A process that is started again whenever it ends, for as long as this one wants it."""

import subprocess
import sys
import threading
from collections.abc import Sequence

from serving.settings import Settings

_PAUSE_S = 1.0
_STOP_S = 10.0


class Supervised:
    """Runs `command` with a stdin that closes when it shall end, or when this process dies."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._process = self._start()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        return self._process.pid

    def stop(self) -> None:
        """End it for good; returns when it is gone."""
        self._ends.set()
        with self._lock:
            process = self._process
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._thread.join()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE)

    def _keep(self) -> None:
        while True:
            self._process.wait()
            if self._ends.wait(_PAUSE_S):
                return
            with self._lock:
                if self._ends.is_set():
                    return
                self._process = self._start()


def controller_command(settings: Settings) -> list[str]:
    """The command line of the rollout's controller."""
    return [sys.executable, "-m", "serving.controller", "--settings", settings.model_dump_json()]
