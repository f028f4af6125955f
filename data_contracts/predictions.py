"""The prediction log: length-prefixed, checksummed JSON records that one replica's boot appends.

Frame: `length u32 | crc32 of payload u32 | crc32 of those 8 bytes u32 | payload`, little-endian, so
that a damaged length cannot pass for a torn tail, which the reader cuts. Records carry `n` from 0
per file, so gaps before the last record are counted; whether records are lost after it shows only
against the number of answered requests. One record is one answered request.
"""

import json
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import to_json

_HEAD = struct.Struct("<II")
_SEAL = struct.Struct("<I")
_FRAME = _HEAD.size + _SEAL.size
SUFFIX = ".predictions"


def prediction_ids(
    use_case: str, version: str, request_id: str, keys: Sequence[str], off_policy: bool = False
) -> list[str]:
    """32 hex digits a candidate, by its `exploration.candidate_key`; of one key in their turn.

    The same candidate of the same request to the same model version is the same prediction, and
    another one is another, also where a second call goes by the same request id. `off_policy`: of a
    request for a version by name, which is shown to nobody who was assigned to anything, so it must
    not pass for one that was.
    """
    asked = f"{use_case}\x1f{version}{'/off-policy' if off_policy else ''}\x1f{request_id}"
    turns: Counter[str] = Counter()
    found: list[str] = []
    for key in keys:
        text = f"{asked}\x1f{turns[key]}\x1f{key}".encode("utf-8", "surrogatepass")
        turns[key] += 1
        found.append(blake2b(text, digest_size=16).hexdigest())
    return found


def digest(request_id: str) -> str:
    """What stands for a request id, which may be a person's, in logs that people read."""
    return blake2b(request_id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


class PredictionLog:
    """Appends to a new file `{folder}/{replica}-{boot}.predictions`; not shared between processes.

    FileExistsError when that boot has a log already: its numbers would start again at 0.
    """

    def __init__(self, folder: Path, replica: str, boot: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{replica}-{boot}{SUFFIX}"
        self._file: BinaryIO = self.path.open("xb", buffering=0)
        self._n = 0
        self.refuses = False
        """Whether the disk took no record when it was last given one."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one record; OSError when the disk refuses (the number is consumed: a gap)."""
        payload = to_json({**record, "n": self._n})
        self._n += 1
        self.refuses = True
        end = self._file.seek(0, os.SEEK_END)
        head = _HEAD.pack(len(payload), zlib.crc32(payload))
        frame = head + _SEAL.pack(zlib.crc32(head)) + payload
        if self._file.write(frame) != len(frame):
            self._file.truncate(end)
            raise OSError(
                f"{self.path}: a record of {len(frame)} bytes did not fit: free disk space"
            )
        self.refuses = False

    def close(self) -> None:
        """Flush to disk and close."""
        os.fsync(self._file.fileno())
        self._file.close()


@dataclass(frozen=True)
class Reading:
    """What one log file holds."""

    records: list[dict[str, Any]]
    torn_bytes: int
    """Bytes after the last whole record: a crash in mid-write, or a write under way."""
    gaps: int
    """Records that were numbered below the last one in the file, but are not in it."""


def read_log(path: Path) -> Reading:
    """All whole records of a log file; ValueError when a record inside it fails its checksum."""
    size, end = path.stat().st_size, 0
    records: list[dict[str, Any]] = []
    for record, at in log_records(path):
        records.append(record)
        end = at
    gaps = records[-1]["n"] + 1 - len(records) if records else 0
    return Reading(records, max(0, size - end), gaps)


def log_records(path: Path, start: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Each whole record of a log file from byte `start` on, where one begins, and the byte after
    it; ValueError as `read_log` raises it."""
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, start
        file.seek(start)
        while at + _FRAME <= size:
            head, seal = file.read(_HEAD.size), file.read(_SEAL.size)
            length, checksum = _HEAD.unpack(head)
            end = at + _FRAME + length
            sound = _SEAL.unpack(seal)[0] == zlib.crc32(head)
            if sound and end > size:
                return
            payload = file.read(length) if sound else b""
            if not sound or zlib.crc32(payload) != checksum:
                # After a loss of power a file may be longer than what was written, by zeros.
                rest = head + seal + payload + file.read()
                if len(rest.rstrip(b"\0")) < (_FRAME + length if sound else _FRAME):
                    return
                raise ValueError(
                    f"{path}: record at byte {at} fails its checksum: restore the file"
                )
            yield json.loads(payload), end
            at = end
