"""Whether a controller answers for a candidate, as one replica sees it."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

from data_contracts.rollout_store import RolloutStore

Made = TypeVar("Made")
_BEAT_S = 2.0
"""Within which a controller that is there renews the exposure."""


class ExposureWatch:
    """Looks at the beats of the exposure; by this process's own clock it ends `lease_s` after the
    last that was seen to come."""

    def __init__(self, store: RolloutStore, lease_s: float) -> None:
        self._store = store
        self._lease_s = lease_s
        self._seen: int | None = None
        self.renewed = float("-inf")
        """When the last beat was seen to come (monotonic, s)."""

    @property
    def over(self) -> bool:
        """Whether nobody answers for the candidate."""
        return time.monotonic() - self.renewed > self._lease_s

    def look(self) -> None:
        """Read the beat."""
        beat = self._store.exposure()
        if beat != self._seen:
            # The first beat that is found may be a dead controller's: only a change is a sign.
            if self._seen is not None:
                self.renewed = time.monotonic()
            self._seen = beat

    def await_beat(self) -> None:
        """Wait until one comes, for as long as that takes where a controller is there."""
        end = time.monotonic() + min(_BEAT_S, self._lease_s)
        while self.over and time.monotonic() < end:
            time.sleep(_BEAT_S / 40)
            self.look()

    async def meanwhile(self, making: Awaitable[Made]) -> Made:
        """What is being made; the exposure is watched on for as long as it takes."""
        task = asyncio.ensure_future(making)
        while not (await asyncio.wait([task], timeout=_BEAT_S / 2))[0]:
            with suppress(sqlite3.Error):  # the replica's next look tells of it
                await asyncio.to_thread(self.look)
        return task.result()
