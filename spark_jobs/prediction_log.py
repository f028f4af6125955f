"""The prediction log as who moves it to a table reads it: each record once, a stretch at a time."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from data_contracts.atomic_write import write_atomically
from data_contracts.lake import Lake
from data_contracts.predictions import SUFFIX, log_records

STRETCH = 32 * 1024 * 1024
"""Bytes of the log that are in memory at a time."""


@dataclass
class Taken:
    """What was taken of one file of the log."""

    end: int = 0
    """Byte after the last record."""
    records: int = 0
    numbered: int = 0
    """Answers that had a number, up to the last record."""
    requests: int = 0
    off_policy: int = 0
    store_failures: int = 0
    versions: dict[str, int] = field(default_factory=dict[str, int])
    """Version -> arrival (µs) of the last request that it answered."""

    @property
    def gaps(self) -> int:
        """Answers that were numbered but not logged, up to the last record."""
        return self.numbered - self.records

    def add(self, records: list[dict[str, Any]], end: int) -> None:
        """Count records that were taken, up to byte `end`."""
        self.end = end
        self.records += len(records)
        self.numbered = records[-1]["n"] + 1
        for record in records:
            if "shadow" in record:
                continue
            if record.get("off_policy"):
                self.off_policy += 1
                continue
            self.requests += 1
            self.store_failures += record["store_failed"]
            version = str(record["version"])
            self.versions[version] = max(self.versions.get(version, 0), record["arrival"])


class PredictionLogReader:
    """Reads on where the last reader stopped.

    What was taken is noted in the folder of `lake.predictions`, under a name that Delta passes
    over: who deletes the table has the whole log read again.
    """

    def __init__(self, lake: Lake) -> None:
        self._folder = lake.prediction_log
        self._notes = lake.predictions / "_taken.json"
        noted = json.loads(self._notes.read_text()) if self._notes.exists() else {}
        self.files = {name: Taken(**each) for name, each in noted.items()}

    def fresh(self) -> Iterator[list[dict[str, Any]]]:
        """Records that nobody took, of one file at a time; taken once the next are asked for.

        ValueError naming a file of which a record fails its checksum.
        """
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            taken = self.files.setdefault(path.name, Taken())
            records, begin, end = list[dict[str, Any]](), taken.end, taken.end
            for record, end in log_records(path, begin):
                records.append(record)
                if end - begin >= STRETCH:
                    yield records
                    taken.add(records, end)
                    self._note()
                    records, begin = [], end
            if records:
                yield records
                taken.add(records, end)
                self._note()

    def torn_bytes(self) -> int:
        """Bytes after the last record of each file: a crash in mid-write, or a write under way."""
        sizes = {path.name: path.stat().st_size for path in self._folder.glob(f"*{SUFFIX}")}
        return sum(max(0, size - self.files[name].end) for name, size in sizes.items())

    def _note(self) -> None:
        if not self._notes.parent.exists():
            return
        said = {name: asdict(each) for name, each in self.files.items()}
        write_atomically(self._notes, json.dumps(said))
