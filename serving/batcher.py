"""What many requests ask for, done together: whatever waits goes when the thread is free."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

_BRIEF_S = 0.003
"""What one thread may do for all others that wait for it."""

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Done(Generic[Answer]):
    """An answer, and where its time went."""

    answer: Answer
    queue_ms: float
    run_ms: float


@dataclass(frozen=True)
class _Waiting(Generic[Ask, Answer]):
    ask: Ask
    since: float
    done: asyncio.Future[Done[Answer]]


class Batcher(Generic[Ask, Answer]):
    """Gives `run` what is queued whenever its last call has ended, the earliest deadline first.

    A call gets `most` rows by `rows`, or one ask that has more; it answers each, or says with an
    exception why not.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Ask]], Sequence[Answer | Exception]],
        rows: Callable[[Ask], int],
        most: int,
    ) -> None:
        self._name = name
        self._run = run
        self._rows = rows
        self._most = most
        self._queue: list[tuple[float, int, _Waiting[Ask, Answer]]] = []
        self._order = itertools.count()
        self._flusher: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, name)
        self._began: float | None = None
        """When the call that is under way began."""
        self._took = float("inf")
        """Time of the last call (s)."""

    def owes_for(self) -> float:
        """Seconds for which the call that is under way has run; 0 where there is none."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    @property
    def free(self) -> bool:
        """Whether nothing waits, nothing runs, and the last call was brief."""
        idle = not self._queue and (self._flusher is None or self._flusher.done())
        return idle and self._took < _BRIEF_S

    async def ask(self, ask: Ask, deadline: float, here: bool = False) -> Done[Answer]:
        """What `run` answers; `deadline` on the monotonic clock (s). `here`: in this thread, if
        it is `free`.

        Raises TimeoutError when the deadline passed before its turn, else what `run` gave.
        """
        if here and self.free:
            if time.monotonic() >= deadline:
                raise self._late()
            return self._here(ask)
        done: asyncio.Future[Done[Answer]] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(ask, time.monotonic(), done)
        heapq.heappush(self._queue, (deadline, next(self._order), waiting))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await done

    def _here(self, ask: Ask) -> Done[Answer]:
        started = time.monotonic()
        (answer,) = self._run([ask])
        self._took = time.monotonic() - started
        if isinstance(answer, Exception):
            raise answer
        return Done(answer, 0.0, self._took * 1000)

    async def close(self, grace: float = 0.0) -> None:
        """Wait for what is under way, after `grace` seconds in which more may come."""
        await asyncio.sleep(grace)
        if self._flusher is not None:
            await self._flusher
        self._thread.shutdown()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            batch = self._take()
            if not batch:
                continue
            started = self._began = time.monotonic()
            answers: Sequence[Answer | Exception]
            try:
                asks = [waiting.ask for waiting in batch]
                answers = await loop.run_in_executor(self._thread, self._run, asks)
            except Exception as error:
                # Nobody may wait for ever, whatever went wrong.
                answers = [error] * len(batch)
            finally:
                self._began = None
            self._took = time.monotonic() - started
            run_ms = self._took * 1000
            for waiting, answer in zip(batch, answers, strict=True):
                if waiting.done.done():
                    continue
                if isinstance(answer, Exception):
                    waiting.done.set_exception(answer)
                else:
                    queue_ms = (started - waiting.since) * 1000
                    waiting.done.set_result(Done(answer, queue_ms, run_ms))

    def _take(self) -> list[_Waiting[Ask, Answer]]:
        """The next asks that fit one call; cancelled ones are dropped, late ones refused."""
        batch: list[_Waiting[Ask, Answer]] = []
        rows = 0
        now = time.monotonic()
        while self._queue:
            deadline, _, waiting = self._queue[0]
            if not waiting.done.done() and deadline >= now:
                size = self._rows(waiting.ask)
                if batch and rows + size > self._most:
                    break
                batch.append(waiting)
                rows += size
            elif not waiting.done.done():
                waiting.done.set_exception(self._late())
            heapq.heappop(self._queue)
        return batch

    def _late(self) -> TimeoutError:
        return TimeoutError(f"{self._name}: its turn did not come before the deadline")
