"""What goes into one call of a batcher."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from threading import Event
from typing import Any

import numpy as np

from serving.batcher import Batcher
from serving.scorer import MAX_ROWS, Scorer

Calls = list[list[int]]
Waiting = list[asyncio.Task[Any]]
BUSY = 5
"""Rows of the call that keeps a batcher busy."""


def run_with(most: int, work: Callable[[Batcher[int, int]], Coroutine[Any, Any, Waiting]]) -> Calls:
    """The calls that a batcher made of what `work` asked it while it was busy; asks are numbers of
    rows."""
    calls: Calls = []
    begun, goes_on = Event(), Event()

    def run(asks: Sequence[int]) -> Sequence[int]:
        begun.set()
        goes_on.wait(60)
        calls.append([*asks])
        return asks

    async def scenario() -> None:
        batcher = Batcher[int, int]("test", run, lambda rows: rows, most)
        busy = asyncio.create_task(batcher.ask(BUSY, until()))
        await asyncio.to_thread(begun.wait, 60)
        waiting = await work(batcher)
        goes_on.set()
        await asyncio.wait([busy, *waiting])
        await batcher.close()

    asyncio.run(scenario())
    assert [BUSY] == calls[0]
    return calls[1:]


def until() -> float:
    return time.monotonic() + 60


async def asked(batcher: Batcher[int, int], *sizes: int) -> Waiting:
    """Asks of so many rows that wait."""
    asks = [asyncio.create_task(batcher.ask(rows, until())) for rows in sizes]
    await asyncio.wait(asks, timeout=0)
    return asks


def test_a_cancelled_ask_takes_no_part_in_a_call() -> None:
    async def work(batcher: Batcher[int, int]) -> Waiting:
        asks = await asked(batcher, 1, 2, 3)
        asks[1].cancel()
        return asks

    assert [[1, 3]] == run_with(10, work)


def test_a_call_gets_no_more_rows_than_allowed_or_one_ask_that_has_more() -> None:
    async def work(batcher: Batcher[int, int]) -> Waiting:
        return await asked(batcher, 4, 3, 3, 11, 2)

    assert [[4, 3, 3], [11], [2]] == run_with(10, work)


def test_an_ask_whose_deadline_has_passed_is_refused_and_not_run() -> None:
    async def work(batcher: Batcher[int, int]) -> Waiting:
        late = asyncio.create_task(batcher.ask(1, time.monotonic() - 1))
        refused.append(late)
        return [late, *await asked(batcher, 2)]

    refused: Waiting = []
    assert [[2]] == run_with(10, work)
    assert isinstance(refused[0].exception(), TimeoutError)


def test_a_scorer_s_call_has_at_most_256_rows() -> None:
    sizes: list[int] = []
    begun, goes_on = Event(), Event()

    class Engine:
        def run(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
            begun.set()
            goes_on.wait(60)
            sizes.append(len(ids))
            return np.zeros(len(ids))

    async def scenario() -> None:
        scorer = Scorer(Engine())

        def score(rows: int) -> Coroutine[Any, Any, Any]:
            return scorer.score(np.zeros((rows, 1), np.int64), np.zeros((rows, 1)), until())

        first = asyncio.create_task(score(1))
        await asyncio.to_thread(begun.wait, 60)
        rest = [asyncio.create_task(score(rows)) for rows in (100, 156, 1, 300)]
        await asyncio.wait(rest, timeout=0)
        goes_on.set()
        await asyncio.gather(first, *rest)
        await scorer.close()

    asyncio.run(scenario())
    assert (256, [1, 256, 1, 256, 44]) == (MAX_ROWS, sizes)
