"""The time under which states are written: a store may drop writes that do not advance."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path


class WriteClock:
    """max(wall, last + 1 µs), kept beside the checkpoint: a store may drop older writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = json.loads(path.read_text())["last"] if path.exists() else 0

    def tick(self) -> datetime:
        """The next write time, strictly later than the last, also after a restart."""
        self._last = max(time.time_ns() // 1000, self._last + 1)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps({"last": self._last}))
        os.replace(part, self._path)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._last)
