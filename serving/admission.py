"""Which requests a replica takes on: those that it will have answered by their deadline.

A request is refused before its body is read, so that a refusal costs a small part of an answer.
"""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

from serving.problem import Problem

DEADLINE = "x-deadline-ms"
"""Header by which a client shortens the time that its answer may take."""
_WEIGHT = 0.05
"""Of the newest interval in the mean."""
_SHARE = 0.8
"""Of a deadline that may go by in the queue."""


def deadline_ms(headers: Mapping[str, str], most: int) -> int:
    """How long (ms) an answer may take; Problem 400 for a header that is no whole number > 0."""
    text = headers.get(DEADLINE)
    if text is None:
        return most
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 10 or not int(text):
        detail = f"{DEADLINE}: {text[:40]!r}: milliseconds as a whole number above 0"
        raise Problem(HTTPStatus.BAD_REQUEST, detail)
    return min(int(text), most)


class Admission:
    """Counts the requests under way, and how far apart their answers are while there are any.

    By Little's law a request that finds n under way is answered n + 1 such intervals from now.
    """

    def __init__(self, most: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._interval: float | None = None
        self._last = 0.0
        """When the last answer was given, or the first request of a busy time came."""
        self.under_way = 0
        self.refused = 0

    @contextmanager
    def admitted(self, within_ms: int) -> Generator[None]:
        """The time of a request that may take `within_ms`; Problem 429 where it would take more."""
        wait = (self.under_way + 1) * (self._interval or 0.0)
        if self.under_way >= self._most or (self.under_way and wait * 1000 > within_ms * _SHARE):
            self.refused += 1
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self.under_way} requests are under way: an answer would take about "
                f"{wait * 1000:.0f} ms of {within_ms}: try again later",
                headers={"Retry-After": "1"},
            )
        if not self.under_way:
            self._last = self._monotonic()
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            now = self._monotonic()
            took, self._last = now - self._last, now
            before = took if self._interval is None else self._interval
            self._interval = before + _WEIGHT * (took - before)
