"""The prediction log: length-prefixed, checksummed JSON records that one replica's boot appends.

Frame: `length u32 | crc32 u32 | payload`, little-endian. A torn tail is cut by the reader; records
carry `n` from 0 per file, so a gap is counted exactly. One record is one answered request.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

_FRAME = struct.Struct("<II")
SUFFIX = ".predictions"


def prediction_id(use_case: str, request_id: str, position: int) -> str:
    """32 hex digits: the same request repeated is the same prediction."""
    text = f"{use_case}\x1f{request_id}\x1f{position}".encode()
    return blake2b(text, digest_size=16).hexdigest()


class PredictionLog:
    """Appends to `{folder}/{replica}-{boot}.predictions`; not shared between processes."""

    def __init__(self, folder: Path, replica: str, boot: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{replica}-{boot}{SUFFIX}"
        self._file: BinaryIO = open(self.path, "ab", buffering=0)
        self._n = 0

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one record; OSError when the disk refuses (the number is consumed: a gap)."""
        payload = json.dumps({"n": self._n, **record}, separators=(",", ":")).encode()
        self._n += 1
        end = self._file.seek(0, os.SEEK_END)
        frame = _FRAME.pack(len(payload), zlib.crc32(payload)) + payload
        if self._file.write(frame) != len(frame):
            self._file.truncate(end)
            raise OSError(
                f"{self.path}: a record of {len(frame)} bytes did not fit: free disk space"
            )

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
    """Records that were numbered but are not in the file."""


def read_log(path: Path) -> Reading:
    """All whole records of a log file; ValueError when a record inside it fails its checksum."""
    data = path.read_bytes()
    records: list[dict[str, Any]] = []
    at = 0
    for payload, end in _frames(path, data):
        records.append(json.loads(payload))
        at = end
    gaps = records[-1]["n"] + 1 - len(records) if records else 0
    return Reading(records, len(data) - at, gaps)


def _frames(path: Path, data: bytes) -> Iterator[tuple[bytes, int]]:
    at = 0
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + length
        if end > len(data):
            return
        payload = data[at + _FRAME.size : end]
        if zlib.crc32(payload) != checksum:
            raise ValueError(f"{path}: record at byte {at} fails its checksum: restore the file")
        yield payload, end
        at = end
