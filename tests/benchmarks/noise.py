"""What the replicas of a simulated release count, and whether its gates ring for it."""

from math import exp
from statistics import NormalDist

import numpy as np

from data_contracts.gate_rules import DEFAULTS
from data_contracts.release import Evidence, judged
from data_contracts.rollout import Plan, Target, advanced, began
from data_contracts.tally import Tally, bucket_of

ERRORS, MEDIAN_MS, SPREAD = 1e-4, 10.0, 0.8
"""Of the requests of both arms alike: the share that their model leaves without an answer, a tenth
of what the gate allows, and the log-normal of their latency: p99 6.4 times the median, as servers
that were measured."""
_QUANTILES = (np.arange(1 << 14) + 0.5) / (1 << 14)
_BUCKETS = np.array(
    [bucket_of(MEDIAN_MS * exp(SPREAD * NormalDist().inv_cdf(each))) for each in _QUANTILES]
)
"""Bucket of each of so many latencies that are as likely."""
_TUNED = {"CTR": 1.0, "paired log loss": 1.0}
_CANARY = advanced(began(Plan(1, Target("1", "1" * 64)), Target("2", "2" * 64), _TUNED), (5_000,))


class Noise:
    """What replicas count of the requests of one step: latencies and scores of both arms are from
    one distribution. `unanswered`: share of the candidate's requests that it fails besides."""

    def __init__(self, rng: np.random.Generator, unanswered: float = 0.0) -> None:
        self._rng = rng
        self._unanswered = unanswered
        self.champion, self.candidate = Tally(), Tally()

    def add(self, champion: int, candidate: int) -> None:
        """Requests of both arms since the last look."""
        self._add(self.champion, champion, ERRORS)
        self._add(self.candidate, candidate, ERRORS + self._unanswered)

    @property
    def alarms(self) -> bool:
        """Whether a release's check of errors, latency or scores fails by now."""
        seen = Evidence(champion=self.champion, candidate=self.candidate)
        checks = judged(_CANARY, DEFAULTS, 0.05, seen, last=False).checks
        return any(check.verdict == "fail" for check in checks)

    def _add(self, tally: Tally, requests: int, errors: float) -> None:
        rng = self._rng
        failed = int(rng.binomial(requests, errors))
        tally.requests += requests
        tally.failures["timeout"] = tally.failures.get("timeout", 0) + failed
        tally.scores += requests - failed
        scores = 1 / (1 + np.exp(-rng.normal(-2.6, 0.5, requests - failed)))
        tally.score_sum += float(scores.sum())
        buckets = _BUCKETS[rng.integers(0, len(_BUCKETS), requests)]
        for each, count in zip(*np.unique(buckets, return_counts=True), strict=True):
            tally.latency[int(each)] = tally.latency.get(int(each), 0) + int(count)
