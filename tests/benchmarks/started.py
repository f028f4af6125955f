"""A server of the benchmark: started, asked, loaded, its processor time read, ended."""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from serving.isolation import choose_ports

_PATIENCE_S = 180.0
_SCORE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Started:
    """A server that answers."""

    url: str
    pid: int
    start_s: float

    @property
    def predict(self) -> str:
        return f"{self.url}/clicks/v1/predict"

    def load(self, bodies: Path, mode: str, value: float, seconds: float) -> dict[str, Any]:
        """What the generator says, a process of its own."""
        options = [self.predict, str(bodies), mode, str(value), str(seconds)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.load", *options],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    def compare(self, bodies: Path, expected: Sequence[float]) -> None:
        """RuntimeError unless it gives the first body's candidates these scores."""
        body = bodies.read_text().partition("\n")[0].replace("REQUEST", f"probe-{time.time_ns()}")
        request = urllib.request.Request(
            self.predict, body.encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            said = json.load(answer)
        given = said.get("scores") or [each["score"] for each in said["predictions"]]
        gap = max(abs(a - b) for a, b in zip(given, expected, strict=True))
        if gap > _SCORE_TOLERANCE:
            raise RuntimeError(f"its scores differ by {gap:.1e} from those of the bundle")

    def cpu_seconds(self) -> float:
        """Processor seconds of its process and everything below it."""
        total, own = 0.0, psutil.Process(self.pid)
        for each in [own, *own.children(recursive=True)]:
            with suppress(psutil.Error):
                times = each.cpu_times()
                total += times.user + times.system
        return total


@contextmanager
def started(command: Sequence[str], options: Sequence[str]) -> Generator[Started]:
    """The server that `command PORT *options` starts; RuntimeError when it does not answer."""
    port, began = choose_ports("127.0.0.1", 0).http, time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, str(port), *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            pause = threading.Event()
            while not _answers(url):
                if process.poll() is not None or time.monotonic() - began > _PATIENCE_S:
                    log.seek(0)
                    tail = log.read()[-2000:].decode(errors="replace")
                    raise RuntimeError(f"did not get ready:\n{tail}")
                pause.wait(0.1)
            yield Started(url, process.pid, time.monotonic() - began)
        finally:
            tree: list[psutil.Process] = []
            with suppress(psutil.Error):
                tree = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            for each in [*tree, process]:
                with suppress(psutil.Error):
                    each.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
