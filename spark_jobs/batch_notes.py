"""Notes on micro-batches beside the checkpoint: JSON lines, of which a batch's first one counts."""

import json
import os
from pathlib import Path
from typing import Any


def note_batch(path: Path, seq: int, name: str, value: Any) -> None:
    """Append, durably, that `name` of batch `seq` is `value` (JSON-ready)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    note = json.dumps({"seq": seq, name: value})
    with open(path, "a", encoding="utf-8") as log:
        # A note that a kill cut short ends at the next one's line break.
        log.write(f"\n{note}\n" if log.tell() else f"{note}\n")
        log.flush()
        os.fsync(log.fileno())


def note_batch_alone(path: Path, seq: int, name: str, value: Any) -> None:
    """As `note_batch`, in place of every earlier note: only a batch under way can come again."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    note_batch(part, seq, name, value)
    os.replace(part, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def batch_notes(path: Path, name: str) -> dict[int, Any]:
    """seq -> the first value noted; what a kill cut short is no note."""
    found: dict[int, Any] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            note = json.loads(line or "{}")
        except ValueError:
            continue
        if note:
            found.setdefault(note["seq"], note[name])
    return found
