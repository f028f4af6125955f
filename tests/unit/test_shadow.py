"""Copies that wait for the candidate, of one release and of the next one at once."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from data_contracts.predictions import PredictionLog
from data_contracts.rollout import BUCKETS, Plan, Target
from data_contracts.use_case import load_use_case
from serving.arms import Arm, Candidate, Snapshot
from serving.breaker import Breaker
from serving.features import Keys, Served
from serving.loader import Bundle
from serving.scorer import MAX_ROWS, Scores
from serving.shadow import BLOCK, MOST, Copy, Shadow

CLICKS = load_use_case("clicks")


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

    now: Callable[[], float] = time.monotonic
    given_s: list[float] = field(default_factory=list)
    """Of each call the time that it was given."""
    rows: list[int] = field(default_factory=list)
    """And of how many rows it was."""

    async def score(self, ids: np.ndarray, dense: np.ndarray, deadline: float) -> Scores:
        self.given_s.append(deadline - self.now())
        self.rows.append(len(ids))
        return Scores(np.linspace(0.1, 0.9, len(ids)), 0.0, 0.0)


@dataclass(frozen=True)
class Named:
    version: str
    digest: str


@dataclass
class Reader:
    """Has the features of users whose name is in `known`, and takes nearly all of its time."""

    known: str
    now: float = 1_000.0

    async def within(self, keys: Keys, q: int, until: float) -> Served:
        self.now = max(self.now, until - 0.01)
        failed = str(keys[0]["user_id"]) not in self.known
        values = np.zeros((1, len(CLICKS.feature_names)))
        return Served(values, np.zeros((1, 1), np.int64), [], q, failed)


def snapshot(release: int, reader: Any = None, engine: Any = None) -> Snapshot:
    """Of a release whose candidate is called like it."""
    bundle = cast(Bundle, Named(str(release), "d"))
    arm = Arm(bundle, reader, engine or cast(Any, Engine()), "definitions")
    plan = Plan(release, Target("1", "a"), Target(str(release), "d"), "shadow", 0, BUCKETS, release)
    return Snapshot(plan, arm, Candidate(arm, None, Breaker()), "salt")


@pytest.mark.parametrize("many", [3, BLOCK, 3 * BLOCK])
def test_each_copy_is_scored_once_by_its_own_candidate(many: int) -> None:
    log = Written()
    snapshots = [snapshot(release) for release in (2, 7)]
    encoded = np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32)

    async def scenario() -> Shadow:
        shadow = Shadow(CLICKS, cast(PredictionLog, log))
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


def test_large_requests_are_scored_in_parts_and_no_more_than_some_rows_wait() -> None:
    """A call that takes long would be taken for one that hangs."""
    log, engine, rows = Written(), Engine(), MOST // 8 - 1
    given = snapshot(2, engine=engine)
    assert given.candidate is not None and given.candidate.arm is not None
    arm = given.candidate.arm
    encoded = np.zeros((rows, 1), np.int64), np.zeros((rows, 1), np.float32)

    async def scenario() -> Shadow:
        shadow = Shadow(CLICKS, cast(PredictionLog, log))
        for number in range(10):
            names = [f"p{number}-{i}" for i in range(rows)]
            shadow.offer(Copy(given, arm, f"r{number}", names, [{}] * rows, 0), encoded)
        await shadow.close()
        shadow.offer(Copy(given, arm, "later", names, [{}] * rows, 0), encoded)
        await shadow.close()
        return shadow

    shadow = asyncio.run(scenario())
    assert (9, 2) == (shadow.scored, shadow.dropped)
    assert (MAX_ROWS, 9 * rows) == (max(engine.rows), sum(engine.rows))
    assert [8 * rows, rows] == [len(said["scores"]) for said in log.said]


@pytest.mark.parametrize("known", ["ac", "", "abc"])
def test_a_store_that_does_not_answer_costs_copies_and_no_candidate(
    known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, reader = Written(), Reader(known)
    engine = Engine(lambda: reader.now)
    monkeypatch.setattr("serving.shadow.time", SimpleNamespace(monotonic=lambda: reader.now))
    given = snapshot(2, reader, engine)
    candidate = given.candidate
    assert candidate is not None and candidate.arm is not None
    arm, item = candidate.arm, {"item_id": "i1", "event_type": "impression"}

    async def scenario() -> Shadow:
        shadow = Shadow(CLICKS, cast(PredictionLog, log))
        # More blocks than a breaker takes failures.
        for number in range(5):
            for user in "abc":
                name = f"{user}{number}"
                rows = [{"user_id": user, **item}]
                shadow.offer(Copy(given, arm, name, [name], rows, 0), None)
            await shadow.close()
        return shadow

    shadow = asyncio.run(scenario())
    assert candidate.breaker.reason is None
    found = [said["prediction_ids"] for said in log.said]
    expected = [[f"{user}{number}" for user in known] for number in range(5)]
    assert [ids for ids in expected if ids] == found
    assert (5 * len(known), 5 * (3 - len(known))) == (shadow.scored, shadow.dropped)
    assert [5.0] * len(found) == engine.given_s, "reading takes nothing of the scorer's time"
