"""How many requests of a UTC day each key may still make, over all replicas of a root and all their
boots.

One file of SQLite beside the keys. A replica takes requests out of it in blocks of a thousandth of
the quota, so that counting costs next to nothing: together they never let in more than the quota,
and a replica that ends takes what is left of its block along.
"""

import logging
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data_contracts.clock import DAY, Clock

BLOCKS = 1000
"""In how many blocks a quota is handed out."""
_PATIENCE_S = 0.02
"""The event loop waits meanwhile."""
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS taken (
    key TEXT NOT NULL, day INTEGER NOT NULL, requests INTEGER NOT NULL, PRIMARY KEY (key, day));
"""
_TAKE = "INSERT INTO taken VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + ?3"
_log = logging.getLogger(__name__)


@dataclass
class _Held:
    """What this replica took of a key's day."""

    day: int
    quota: int
    taken: int = 0
    left: int = 0
    gone: bool = False
    """Whether no block is left for anyone."""


class Quotas:
    """Of one replica; for one thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._file: sqlite3.Connection | None = None
        self._held: dict[str, _Held] = {}
        self.failures = 0
        """Looks into the file that failed: the replica went by its own count, unknown to others."""

    def take(self, key: str, quota: int) -> bool:
        """One request of the key's day; False when its `quota` is used up."""
        day = self._clock.now() // DAY
        held = self._held.get(key)
        if held is None or held.day != day:
            held = self._held[key] = _Held(day, quota)
        if held.quota != quota:
            held.left = held.left if quota > held.quota else 0
            held.quota, held.gone = quota, False
        if not held.left and not held.gone:
            held.left = self._block(key, held)
            held.taken += held.left
            held.gone = not held.left
        if not held.left:
            return False
        held.left -= 1
        return True

    def _block(self, key: str, held: _Held) -> int:
        """Requests of a new block; 0 when the quota is handed out."""
        most = -(-held.quota // BLOCKS)
        try:
            with self._transaction() as file:
                asked = "SELECT requests FROM taken WHERE key = ? AND day = ?"
                found = file.execute(asked, (key, held.day)).fetchone()
                block = max(0, min(most, held.quota - (found[0] if found else 0)))
                if block:
                    file.execute(_TAKE, (key, held.day, block))
                    file.execute("DELETE FROM taken WHERE day < ?", (held.day - 1,))
            return block
        except sqlite3.Error:
            _log.exception("quotas: %s: a block of key %r was not counted", self._path, key)
            self.close()
            self.failures += 1
            return max(0, min(most, held.quota - held.taken))

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        if self._file is None:
            self._file = sqlite3.connect(
                self._path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            self._file.executescript(_SCHEMA)
        self._file.execute("BEGIN IMMEDIATE")
        with self._file:
            yield self._file

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
