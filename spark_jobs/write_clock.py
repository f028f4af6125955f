"""The time under which states are written: a store may drop writes that do not advance."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from data_contracts.atomic_write import write_atomically


class WriteClock:
    """max(wall, last + 1 µs), kept beside the checkpoint: a store may drop older writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = json.loads(path.read_text())["last"] if path.exists() else 0

    def tick(self) -> datetime:
        """The next write time, strictly later than the last, also after a restart."""
        self._last = max(time.time_ns() // 1000, self._last + 1)
        write_atomically(self._path, json.dumps({"last": self._last}))
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._last)
