"""A candidate in a process of its own, as an engine that the scorer can run."""

import os
import select
import time

import numpy as np

from data_contracts.bundle import BundleRefused, check_inputs
from serving.candidate import ANSWER, ROWS, SCORES
from serving.forks import Forks
from serving.loader import Bundle
from serving.scorer import ScoreFailed
from serving.settings import Device

_CHUNK = 1 << 16
_HANDED_S = 0.02
"""Between a request that waits and the call that is made for it."""


class CandidateDied(RuntimeError):
    """The candidate's process is gone; it is not started again."""


class CandidateProcess:
    """The process that scores with one bundle, from when it is ready; `until_ready` and `run` are
    for one thread at a time. OSError where it cannot be started.
    """

    def __init__(
        self, forks: Forks, bundle: Bundle, threads: int, device: Device, hang_s: float
    ) -> None:
        self.bundle = bundle
        self._hang_s = hang_s
        self._reason: str | None = None
        self._since: float | None = None
        """When it was sent what it has not answered yet."""
        self._overdue = 0
        """For how many times the limit that was told to be unanswered."""
        named = (str(bundle.folder), bundle.digest, bundle.name, bundle.version)
        self._forks = forks
        self._process = forks.start([*named, str(threads), device])
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def until_ready(self, within: float) -> None:
        """Return once its golden rows are scored; BundleRefused, and it is closed, where they are
        not within so many seconds, or wrong."""
        try:
            self._exchange(b"", within)
        except (CandidateDied, ScoreFailed) as error:
            self.close()
            version = self.bundle.version
            raise BundleRefused(f"version {version}: did not start: {error}") from error

    def kill(self) -> None:
        """End the process, from any thread: whoever waits for it is told so, and closes it."""
        if self._reason is None:
            self._forks.kill(self._process)

    def overdue(self, limit_s: float) -> bool:
        """Whether it has left what it was sent unanswered for once, twice … the limit; true once of
        each time, however many ask: they wait for one answer."""
        since = self._since
        waited = 0.0 if since is None else time.monotonic() - since
        times = int((waited + _HANDED_S) / limit_s)
        before, self._overdue = self._overdue, max(times, self._overdue)
        return times > before

    def run(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """As `Model.run`, in the process. CandidateDied when that ends, or says nothing within the
        time it is given, which ends it."""
        check_inputs(self.bundle.manifest, ids, dense)
        frame = ROWS.pack(len(ids)) + ids.tobytes() + dense.tobytes()
        scores = np.frombuffer(self._exchange(frame, self._hang_s), np.float64)
        if len(scores) != len(ids) or not ((scores >= 0) & (scores <= 1)).all():
            raise ScoreFailed(f"{len(ids)} rows gave {len(scores)} scores, not all in [0, 1]")
        return scores

    def close(self) -> None:
        """End the process."""
        if self._reason is None:
            self._end("was closed")
        for descriptor in (self._in, self._out):
            os.close(descriptor)

    def _exchange(self, frame: bytes, within: float) -> bytes:
        if self._reason is not None:
            raise CandidateDied(self._reason)
        self._overdue, self._since = 0, time.monotonic()
        end = self._since + within
        try:
            self._write(frame, end)
            kind, length = ANSWER.unpack(self._read(ANSWER.size, end))
            body = self._read(length, end)
        except TimeoutError:
            self._end(f"said nothing for {within:g} s")
            raise CandidateDied(self._reason) from None
        except (EOFError, BrokenPipeError):
            self._reason = f"ended with {self._forks.wait(self._process)}"
            raise CandidateDied(self._reason) from None
        finally:
            self._since = None
        if kind != SCORES:
            raise ScoreFailed(body.decode("utf-8", "replace"))
        return body

    def _end(self, reason: str) -> None:
        self._forks.kill(self._process)
        self._forks.wait(self._process)
        self._reason = reason

    def _write(self, data: bytes, end: float) -> None:
        left = memoryview(data)
        while left:
            _until(self._in, select.POLLOUT, end)
            left = left[os.write(self._in, left[:_CHUNK]) :]

    def _read(self, count: int, end: float) -> bytes:
        found = bytearray()
        while len(found) < count:
            _until(self._out, select.POLLIN, end)
            part = os.read(self._out, min(_CHUNK, count - len(found)))
            if not part:
                raise EOFError
            found += part
        return bytes(found)


def _until(descriptor: int, event: int, end: float) -> None:
    """Return once `event` can be; TimeoutError at `end` on the monotonic clock."""
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
        raise TimeoutError
