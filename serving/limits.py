"""How much one key may ask: of a replica by a token bucket, of all by a quota of the day."""

import math
import time
from collections.abc import Callable
from http import HTTPStatus

from data_contracts.clock import DAY, Clock
from serving.auth import Caller
from serving.problem import Problem
from serving.quotas import Quotas


class RateLimits:
    """Counts what each key asked for; a key without limits costs nothing here."""

    def __init__(
        self, clock: Clock, quotas: Quotas, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.quotas = quotas
        self._monotonic = monotonic
        self._buckets: dict[str, tuple[float, float]] = {}
        """Key -> tokens left, and when that was."""
        self.refused = 0

    def take_rate(self, caller: Caller) -> None:
        """Count one request that came; Problem 429 saying when the next one is taken."""
        if caller.rate is not None:
            self._of_the_second(caller.name, caller.rate)

    def take_quota(self, caller: Caller) -> None:
        """Count one request that was let in: what is refused before costs nothing of the day.
        Problem 429 saying when the next one is taken."""
        if caller.quota is None or self.quotas.take(caller.name, caller.quota):
            return
        detail = f"key {caller.name!r}: its {caller.quota:,} requests of this UTC day are used up"
        raise self._refused(detail, (DAY - self._clock.now() % DAY) / 1e6)

    def _of_the_second(self, name: str, rate: float) -> None:
        now, most = self._monotonic(), max(1.0, rate)
        left, since = self._buckets.get(name, (most, now))
        left = min(most, left + (now - since) * rate)
        if left < 1.0:
            self._buckets[name] = left, now
            detail = f"key {name!r}: more than {rate:g} requests a second"
            raise self._refused(detail, (1 - left) / rate)
        self._buckets[name] = left - 1.0, now

    def _refused(self, detail: str, seconds: float) -> Problem:
        self.refused += 1
        after = str(max(1, math.ceil(seconds)))
        return Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"Retry-After": after})
