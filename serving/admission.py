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
_SHARE = 0.25
"""Of a deadline that a request is expected to take: the rest is for what comes before it is
counted, and for the spread; with much more, features came too late for their own share of it."""
_SLOT = 32
"""Answers over which the processor's time is shared out: those of a batch come all at once."""
_WEIGHT = 0.3
"""Of the newest slot in the mean."""
_QUANTILE = 0.75
_STEP = 0.05
"""By which the quantile moves at an answer, of itself …"""
_LEAST_S = 0.002
"""… or of this, where it is less."""


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

    A wait is the processor's time for every request under way, and what an answer takes beside it:
    store, disk, other processes. The first is a mean of the processor's own time, which a machine
    that stands still does not lengthen. The second is an upper quartile, which a few late answers
    move little, and counts for half of what may be expected at most: a store that is slow for
    everyone must not have requests refused that get their defaults in time. Times begin when a
    body is there: a client that sends slowly delays nobody.
    """

    def __init__(
        self,
        most: int,
        monotonic: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self._most = most
        self._monotonic = monotonic
        self._processor = processor
        self._each = 0.0
        """Processor time of an answer (s)."""
        self._beside = 0.0
        """What it takes beside that (s)."""
        self._seen = 0.0
        """The processor's clock when it was last looked at …"""
        self._spent = 0.0
        """… and what went into the answers of this slot by then."""
        self._answers = 0
        self.under_way = 0
        self.refused = 0

    @contextmanager
    def admitted(self, within_ms: int) -> Generator[Turn]:
        """The time of a request that may take `within_ms`; Problem 429 where it would take more.

        A replica with nothing to do takes on any request: so it learns when it is fast again.
        """
        share = within_ms / 1000 * _SHARE
        wait = self._each * (self.under_way + 1) + min(self._beside, share / 2)
        if self.under_way >= self._most or (self.under_way and wait > share):
            self.refused += 1
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self.under_way} requests are under way: an answer would take about "
                f"{wait * 1000:.0f} ms of {within_ms}: try again later",
                headers={"Retry-After": str(max(1, math.ceil(wait)))},
            )
        if not self.under_way:
            # What was done meanwhile was for nobody's answer.
            self._seen = self._processor()
        turn = Turn(self.under_way)
        self.under_way += 1
        try:
            yield turn
        finally:
            self.under_way -= 1
            self._learn(turn)

    def begin(self, turn: Turn) -> None:
        """Its body is there."""
        turn.began = self._monotonic()

    def _learn(self, turn: Turn) -> None:
        now = self._processor()
        self._spent += now - self._seen
        self._seen = now
        if turn.began is None:
            return
        self._answers += 1
        if self._answers == _SLOT:
            mean = self._spent / _SLOT
            self._each += (mean - self._each) * (_WEIGHT if self._each else 1.0)
            self._spent, self._answers = 0.0, 0
        beside = self._monotonic() - turn.began - self._each * (turn.ahead + 1)
        up = _QUANTILE if beside > self._beside else _QUANTILE - 1
        self._beside = max(0.0, self._beside + up * _STEP * max(self._beside, _LEAST_S))
