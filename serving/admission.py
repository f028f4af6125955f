"""Which requests a replica takes on: those that it will have answered by their deadline."""

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

from serving.problem import Problem

DEADLINE = "x-deadline-ms"
"""Header by which a client shortens the time that its answer may take."""
_WEIGHT = 0.05
"""Of the newest request in the mean."""
_SHARE = 0.25
"""Of a deadline that a request is expected to take: the rest is for what comes before it is
counted, and for the spread; with much more, features came too late for their own share of it."""


def deadline_ms(headers: Mapping[str, str], most: int) -> int:
    """How long (ms) an answer may take; Problem 400 for a header that is no whole number > 0."""
    text = headers.get(DEADLINE)
    if text is None:
        return most
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 10 or not int(text):
        detail = f"{DEADLINE}: {text[:40]!r}: milliseconds as a whole number above 0"
        raise Problem(HTTPStatus.BAD_REQUEST, detail)
    return min(int(text), most)


@dataclass
class Turn:
    """One request that was taken on."""

    ahead: int
    began: float | None = None
    """When all of it had arrived."""


class Admission:
    """Counts the requests under way and learns how long an answer takes when so many are.

    A wait is the mean time of recent requests, in the proportion of those under way now to those
    that were then (Little's law). A time begins when a body is there: a client that sends slowly
    delays nobody.
    """

    def __init__(self, most: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._took = 0.0
        """Mean time of a request (s), …"""
        self._shared = 1.0
        """… and mean number that shared it, itself included."""
        self.under_way = 0
        self.refused = 0

    @contextmanager
    def admitted(self, within_ms: int) -> Generator[Turn]:
        """The time of a request that may take `within_ms`; Problem 429 where it would take more.

        A replica with nothing to do takes on any request: so it learns when it is fast again.
        """
        wait = self._took * (self.under_way + 1) / self._shared
        late = wait * 1000 > within_ms * _SHARE
        if self.under_way >= self._most or (self.under_way and late):
            self.refused += 1
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self.under_way} requests are under way: an answer would take about "
                f"{wait * 1000:.0f} ms of {within_ms}: try again later",
                headers={"Retry-After": str(max(1, math.ceil(wait)))},
            )
        turn = Turn(self.under_way)
        self.under_way += 1
        try:
            yield turn
        finally:
            self.under_way -= 1
            if turn.began is not None:
                self._took += _WEIGHT * (self._monotonic() - turn.began - self._took)
                self._shared += _WEIGHT * (turn.ahead + 1 - self._shared)

    def begin(self, turn: Turn) -> None:
        """Its body is there."""
        turn.began = self._monotonic()
