"""The collector's end of the landing log: an append is on the disk before it is answered."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from data_contracts.landing import COLLECTED


@dataclass(frozen=True)
class Position:
    """Where an append ends: the stream has it once it consumed `offset` bytes of `file`."""

    file: str
    offset: int


@dataclass(frozen=True)
class _Pending:
    data: bytes
    done: asyncio.Future[Position]


class LandingLog:
    """Appends to `{folder}/{prefix}{replica}-{boot}-{n}.jsonl`, files of this process alone.

    Requests that wait while the disk is busy share one write and one fsync. After a write that
    failed, the file is cut back to its last good line and the next one begins.
    """

    def __init__(self, folder: Path, replica: str, boot: str, prefix: str = COLLECTED) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._stem = f"{prefix}{replica}-{boot}"
        self._generation = 0
        self._open()
        self._queue: list[_Pending] = []
        self._flusher: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(1, "landing")

    async def append(self, lines: Sequence[bytes]) -> Position:
        """Append `lines` (each one JSON object without newline) durably, all or none.

        Raises OSError when the disk refuses; nothing of the lines is in the log then.
        """
        data = b"".join(line + b"\n" for line in lines)
        pending = _Pending(data, asyncio.get_running_loop().create_future())
        self._queue.append(pending)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await pending.done

    async def close(self) -> None:
        """Wait for what is being written and close the file."""
        if self._flusher is not None:
            await self._flusher
        self._disk.shutdown()
        os.close(self._descriptor)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            taken, self._queue = self._queue, []
            data = b"".join(pending.data for pending in taken)
            try:
                at = await loop.run_in_executor(self._disk, self._write, data)
            except OSError as error:
                for pending in taken:
                    if not pending.done.done():
                        pending.done.set_exception(error)
                continue
            for pending in taken:
                at = Position(at.file, at.offset + len(pending.data))
                if not pending.done.done():
                    pending.done.set_result(at)

    def _write(self, data: bytes) -> Position:
        if self._failed:
            spoilt = self._descriptor
            self._generation += 1
            self._open()
            os.close(spoilt)
        try:
            written = os.write(self._descriptor, data)
            if written != len(data):
                raise OSError(f"{self.path}: {written} of {len(data)} bytes written: free the disk")
            os.fsync(self._descriptor)
        except OSError:
            # A reader may have taken what is cut here, and counts bytes: the file ends for good.
            self._failed = True
            os.ftruncate(self._descriptor, self._end)
            raise
        start, self._end = self._end, self._end + len(data)
        return Position(self.path.name, start)

    def _open(self) -> None:
        path = self._folder / f"{self._stem}-{self._generation}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        descriptor = os.open(path, flags, 0o644)
        try:
            _sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            raise
        self.path, self._descriptor, self._end, self._failed = path, descriptor, 0, False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
