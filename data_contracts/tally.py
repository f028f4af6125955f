"""What a replica counts of each arm's requests, in a form that adds up over replicas."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import floor, log2
from typing import Any

_PER_OCTAVE = 8
"""Buckets of latency per factor of two: a quantile is at most 9 % above the true one."""

UNEXPOSED = "not exposed"
"""Why a model did not answer that was not asked: its breaker is open, or no controller leads."""
TIMEOUT = "timeout"
"""Why there is no answer: a call of the model takes longer than it may, or nobody answered in time.
"""
LATE = "late"
"""Why another model answered though no call of this one took longer than it may: the machine, its
queue or a client in a hurry left it less. It shows in the latency."""


@dataclass
class Tally:
    """Counts of one arm since an epoch began."""

    requests: int = 0
    """Assigned to the arm, whichever model answered, or none."""
    failures: dict[str, int] = field(default_factory=dict[str, int])
    """Why the arm's own model did not answer -> how often; another model answered, or none."""
    scores: int = 0
    score_sum: float = 0.0
    latency: dict[int, int] = field(default_factory=dict[int, int])
    """Bucket of the time to the answer -> requests that the arm's own model was asked for."""
    latency_ms: float = 0.0
    """Sum of those times."""

    def answered(self, milliseconds: float, scores: int, score_sum: float) -> None:
        """Count a request whose arm's own model gave these scores."""
        self.requests += 1
        self.scores += scores
        self.score_sum += score_sum
        self._took(milliseconds)

    def failed(self, reason: str, milliseconds: float) -> None:
        """Count a request that the arm's own model did not answer because of `reason`."""
        self.requests += 1
        self.failures[reason] = self.failures.get(reason, 0) + 1
        if reason != UNEXPOSED:
            self._took(milliseconds)

    @property
    def failed_requests(self) -> int:
        """How many requests the arm's own model was asked for and failed to answer."""
        return sum(n for why, n in self.failures.items() if why not in (UNEXPOSED, LATE))

    @property
    def own_answers(self) -> int:
        """How many requests the arm's own model answered."""
        return self.requests - sum(self.failures.values())

    @property
    def asked(self) -> int:
        """How many requests the arm's own model was asked for."""
        return self.requests - self.failures.get(UNEXPOSED, 0)

    @property
    def mean_score(self) -> float:
        """Of all scores; NaN without any."""
        return self.score_sum / self.scores if self.scores else float("nan")

    def quantile_ms(self, share: float) -> float:
        """The upper edge of the bucket in which this quantile of the latency lies; NaN if none."""
        left = share * sum(self.latency.values())
        for bucket in sorted(self.latency):
            left -= self.latency[bucket]
            if left <= 0:
                return edge_ms(bucket)
        return float("nan")

    def within(self, milliseconds: float) -> int:
        """Requests whose bucket ends by then."""
        return sum(n for bucket, n in self.latency.items() if edge_ms(bucket) <= milliseconds)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "requests": self.requests,
            "failures": self.failures,
            "scores": self.scores,
            "score_sum": self.score_sum,
            "latency": {str(bucket): count for bucket, count in self.latency.items()},
            "latency_ms": self.latency_ms,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Tally":
        """What `as_dict` gave, also after JSON."""
        latency = {int(bucket): int(count) for bucket, count in raw["latency"].items()}
        said: dict[str, Any] = {**raw, "failures": dict(raw["failures"]), "latency": latency}
        return cls(**said)

    def _took(self, milliseconds: float) -> None:
        bucket = bucket_of(milliseconds)
        self.latency[bucket] = self.latency.get(bucket, 0) + 1
        self.latency_ms += milliseconds


def bucket_of(milliseconds: float) -> int:
    """The bucket of a latency."""
    return floor(_PER_OCTAVE * log2(max(milliseconds, 0.001)))


def edge_ms(bucket: int) -> float:
    """The upper edge of a bucket of latency."""
    return 2.0 ** ((bucket + 1) / _PER_OCTAVE)


def summed(tallies: Iterable[Tally]) -> Tally:
    """All of them as one."""
    found, failures, latency = Tally(), Counter[str](), Counter[int]()
    for each in tallies:
        found.requests += each.requests
        found.scores += each.scores
        found.score_sum += each.score_sum
        found.latency_ms += each.latency_ms
        failures.update(each.failures)
        latency.update(each.latency)
    found.failures, found.latency = dict(failures), dict(latency)
    return found
