"""The processes of the engines: asked one at a time, measured from outside, ended at a limit."""

import json
import selectors
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_S = 0.2
GIB = 2**30


class GivenUp(Exception):
    """The engine cannot go on; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What one run of an engine may take."""

    seconds: float = 600.0
    gib: float = 12.0


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    seconds: float
    cpu: float
    """Processor seconds of the whole process tree."""
    peak: int
    """Bytes: the largest proportional set size of the tree that was sampled."""


class Worker:
    """An engine's process, with what it starts."""

    def __init__(self, name: str, scratch: Path, limits: Limits) -> None:
        self._limits = limits
        scratch.mkdir(parents=True, exist_ok=True)
        with open(scratch / "stderr.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.worker", name, str(scratch)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.started: Cost | None = None

    def wait_until_up(self) -> Cost:
        """What the start took; known once."""
        if self.started is None:
            self.started = self._answer()
        return self.started

    def run(self, log: Path, out: Path) -> Cost:
        """One training set; GivenUp with the reason when it fails or goes past a limit."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(
                f"{json.dumps({'log': str(log), 'out': str(out)})}\n".encode()
            )
            self._process.stdin.flush()
        except BrokenPipeError:
            raise GivenUp("its process ended") from None
        return self._answer()

    def end(self) -> None:
        """End the whole tree: a JVM and its workers are in groups of their own."""
        tree = self._tree()
        for process in tree:
            with suppress(psutil.Error):
                process.kill()
        self._process.wait()
        psutil.wait_procs(tree, 10)

    def _answer(self) -> Cost:
        assert self._process.stdout is not None
        began, before, peak = time.monotonic(), self._cpu(), 0
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            while not ready.select(SAMPLE_S):
                peak = max(peak, self._memory())
                if time.monotonic() - began > self._limits.seconds:
                    raise GivenUp(f"more than {self._limits.seconds:g} s")
                if peak > self._limits.gib * GIB:
                    raise GivenUp(f"more than {self._limits.gib:g} GiB")
        peak = max(peak, self._memory())
        line = self._process.stdout.readline()
        if not line:
            raise GivenUp("its process ended")
        answer = json.loads(line)
        if "error" in answer:
            raise GivenUp(answer["error"])
        return Cost(answer["seconds"], self._cpu() - before, peak)

    def _tree(self) -> list[psutil.Process]:
        try:
            own = psutil.Process(self._process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.Error:
            return []

    def _cpu(self) -> float:
        total = 0.0
        for process in self._tree():
            try:
                total += sum(process.cpu_times()[:4])
            except psutil.Error:
                continue
        return total

    def _memory(self) -> int:
        total = 0
        for process in self._tree():
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        return total
