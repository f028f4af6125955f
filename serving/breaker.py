"""The breaker of a candidate in one replica: it opens on bad answers and stays open."""

from collections import deque
from collections.abc import Callable

import numpy as np

LAST = 20
"""Calls that are looked back at."""
MOST = 3
"""Failures among them that open it."""
CONSTANT = 20
"""Answers in a row with one score for rows that differ that open it."""


class Breaker:
    """Closed until the candidate proves bad; a new release of it gets a new breaker.

    `opened` is called when it opens.
    """

    def __init__(
        self, reason: str | None = None, opened: Callable[[], None] = lambda: None
    ) -> None:
        self.reason = reason
        """Why it is open; None while it is closed."""
        self._opened = opened
        self._last: deque[bool] = deque(maxlen=LAST)
        self._constant = 0

    def failed(self, reason: str, fatal: bool) -> None:
        """Note a call without an answer; a `fatal` one opens it at once."""
        self._last.append(True)
        if fatal or sum(self._last) >= MOST:
            self._open(reason if fatal else f"{sum(self._last)} of {len(self._last)}: {reason}")

    def answered(self, ids: np.ndarray, dense: np.ndarray, scores: np.ndarray) -> None:
        """Note an answer: what was scored [rows, …] and float64[rows]."""
        self._last.append(False)
        if (ids != ids[0]).any() or (dense != dense[0]).any():
            same = bool((scores == scores[0]).all())
            self._constant = self._constant + 1 if same else 0
        if self._constant >= CONSTANT:
            self._open(f"{CONSTANT} requests in a row with one score for different rows")

    def _open(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
            self._opened()
