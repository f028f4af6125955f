"""Copies that wait for the candidate, of one release and of the next one at once."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from data_contracts.predictions import PredictionLog
from data_contracts.rollout import BUCKETS, Plan, Target
from data_contracts.use_case import load_use_case
from serving.arms import Arm, Candidate, Snapshot
from serving.breaker import Breaker
from serving.loader import Bundle
from serving.scorer import Scores
from serving.shadow import BLOCK, Copy, Shadow


@dataclass
class Written:
    """A log that keeps what is said."""

    said: list[Any] = field(default_factory=list)
    refuses: bool = False

    def append(self, record: Any) -> None:
        self.said.append(record["shadow"])


@dataclass
class Engine:
    """Scores anything."""

    async def score(self, ids: np.ndarray, dense: np.ndarray, deadline: float) -> Scores:
        return Scores(np.linspace(0.1, 0.9, len(ids)), 0.0, 0.0)


@dataclass(frozen=True)
class Named:
    version: str
    digest: str


def snapshot(release: int) -> Snapshot:
    """Of a release whose candidate is called like it."""
    bundle = cast(Bundle, Named(str(release), "d"))
    arm = Arm(bundle, cast(Any, None), cast(Any, Engine()), "definitions")
    plan = Plan(release, Target("1", "a"), Target(str(release), "d"), "shadow", 0, BUCKETS, release)
    return Snapshot(plan, arm, Candidate(arm, None, Breaker()), "salt")


@pytest.mark.parametrize("many", [3, BLOCK, 3 * BLOCK])
def test_each_copy_is_scored_once_by_its_own_candidate(many: int) -> None:
    log = Written()
    snapshots = [snapshot(release) for release in (2, 7)]
    encoded = np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32)

    async def scenario() -> Shadow:
        shadow = Shadow(load_use_case("clicks"), cast(PredictionLog, log))
        for number in range(many):
            # Requests that began before a plan was taken up and after it end in any order.
            given = snapshots[number % 2]
            assert given.candidate is not None and given.candidate.arm is not None
            copy = Copy(given, given.candidate.arm, f"r{number}", [f"p{number}"], [{}], 0)
            shadow.offer(copy, encoded)
        await shadow.close()
        return shadow

    shadow = asyncio.run(scenario())
    scored = [(i, said["version"]) for said in log.said for i in said["prediction_ids"]]
    expected = [(f"p{number}", "27"[number % 2]) for number in range(many)]
    assert sorted(expected) == sorted(scored)
    assert (many, 0) == (shadow.scored, shadow.dropped)
