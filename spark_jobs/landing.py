"""The landing log as a streaming source: raw lines with their origin, files may still grow."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import (
    ReadAllAvailable,
    ReadLimit,
    ReadMaxBytes,
    SupportsTriggerAvailableNow,
)
from pyspark.sql.types import StructType

from data_contracts.clock import Clock
from data_contracts.lake import Lake
from data_contracts.landing import GROWING, landed_name, landed_parts
from spark_jobs.checkpoint import Offset, read_epoch
from spark_jobs.schemas import RAW

MAX_BATCH_BYTES = 16 * 1024 * 1024
"""What one micro-batch takes from the log at most, so that a large file is many batches."""


def land(lake: Lake, files: Sequence[Path], clock: Clock) -> int:
    """Copy files of canonical events into the landing log; returns how many were new.

    Raises ValueError naming a file that is missing, empty or binary; then none is taken.
    """
    digests = [_digest(path) for path in files]
    lake.landing.mkdir(parents=True, exist_ok=True)
    parts = [landed_parts(path.name) for path in lake.landing.iterdir()]
    known = {found[1:] for found in parts if found}
    new = 0
    for path, digest in zip(files, digests, strict=True):
        name = landed_name(clock.now(), digest, path.name)
        found = landed_parts(name)
        if found and found[1:] not in known:
            part = lake.landing / f".{name}.part"
            shutil.copyfile(path, part)
            os.replace(part, lake.landing / name)
            known.add(found[1:])
            new += 1
    return new


def _digest(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path}: no such file: give a file of JSON lines")
    if "\n" in path.name:
        raise ValueError(f"{path}: its name holds a line break: rename it")
    if not path.stat().st_size:
        raise ValueError(f"{path}: is empty: give a file of JSON lines")
    with open(path, "rb") as source:
        if b"\x00" in source.read(8192):
            raise ValueError(f"{path}: is binary (NUL bytes): give a file of JSON lines")
        source.seek(0)
        return hashlib.file_digest(source, "sha256").hexdigest()


class LandingSource(DataSource):
    """`spark.readStream.format("landing").option("path", folder)`.

    The option `max_batch_bytes` bounds what one micro-batch takes; `epoch` names the file of the
    epoch, which says where to begin.
    """

    @classmethod
    def name(cls) -> str:
        return "landing"

    def schema(self) -> str:
        return RAW

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802
        limit = int(self.options.get("max_batch_bytes", MAX_BATCH_BYTES))
        return _Reader(Path(self.options["path"]), limit, Path(self.options["epoch"]))


@dataclass
class _Chunk(InputPartition):
    path: str
    start: int
    end: int
    line: int


class _Reader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    def __init__(self, folder: Path, max_batch_bytes: int, epoch: Path) -> None:
        self._folder = folder
        self._epoch = epoch
        self._max_batch_bytes = max_batch_bytes
        self._until: dict[str, int] | None = None

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802
        return read_epoch(self._epoch).start

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802
        return ReadMaxBytes(self._max_batch_bytes)

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        self._until = self._sizes()

    def latestOffset(self, start: Offset, limit: ReadLimit) -> Offset:  # noqa: N802
        left = None if isinstance(limit, ReadAllAvailable) else self._max_batch_bytes
        end = dict(start)
        for name, size in (self._sizes() if self._until is None else self._until).items():
            done = start.get(name, {"bytes": 0, "lines": 0})
            want = size - done["bytes"]
            if want <= 0:
                continue
            with open(self._folder / name, "rb") as file:
                file.seek(done["bytes"])
                data = file.read(want if left is None else min(want, left))
                if len(data) < want and b"\n" not in data and end == start:
                    data += file.readline()
            whole = not name.startswith(GROWING) and len(data) == want
            taken = data if whole else data[: data.rfind(b"\n") + 1]
            lines = taken.count(b"\n") + (taken[-1:] not in (b"", b"\n"))
            if taken:
                end[name] = {"bytes": done["bytes"] + len(taken), "lines": done["lines"] + lines}
            if left is not None and (left := left - len(data)) <= 0:
                break
        return end

    def partitions(self, start: Offset, end: Offset) -> list[InputPartition]:
        empty = {"bytes": 0, "lines": 0}
        return [
            _Chunk(str(self._folder / name), done["bytes"], upto["bytes"], done["lines"])
            for name, upto in end.items()
            if (done := start.get(name, empty))["bytes"] < upto["bytes"]
        ]

    def read(self, partition: InputPartition) -> Iterator[tuple[str, int, bytes]]:
        assert isinstance(partition, _Chunk)
        with open(partition.path, "rb") as file:
            file.seek(partition.start)
            data = file.read(partition.end - partition.start)
        for i, payload in enumerate(data.removesuffix(b"\n").split(b"\n")):
            yield Path(partition.path).name, partition.line + i + 1, payload

    def _sizes(self) -> dict[str, int]:
        if not self._folder.is_dir():
            return {}
        names = [p.name for p in self._folder.glob("*.jsonl") if p.is_file()]
        # What comes in live does not wait for a long history.
        names.sort(key=lambda name: (not name.startswith(GROWING), name))
        return {name: (self._folder / name).stat().st_size for name in names}
