"""How long the parts of an answer may take, and what is given up when one of them takes longer.

In this order, each said in the prediction log: the features (declared defaults take their place,
`store_failed`), the candidate (the champion answers, `fallback`), the answer (503, with no record).
"""

import time
from dataclasses import dataclass

FEATURES = 0.3
"""Share of a request's time after which its features are no longer waited for."""
CANDIDATE = 0.5
"""Share that a candidate may take at most, so that enough is left for the champion."""


@dataclass(frozen=True)
class Budget:
    """The time of one request, on the monotonic clock (s)."""

    began: float
    within_s: float

    @property
    def features_until(self) -> float:
        """When the features have to be there, whichever arm answers."""
        return self.began + FEATURES * self.within_s

    @property
    def until(self) -> float:
        """When the answer has to be there."""
        return self.began + self.within_s

    def candidate_s(self, most_ms: int) -> float:
        """How long the candidate may take for its scores."""
        return min(most_ms / 1000, CANDIDATE * self.within_s)

    def rest(self) -> "Budget":
        """What is left of it, for an arm that answers in another one's place."""
        now = time.monotonic()
        return Budget(now, self.until - now)
