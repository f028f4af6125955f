"""What Spark's checkpoint of the stream says: how far the landing log is taken, and committed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_contracts.lake import Lake


@dataclass(frozen=True)
class Consumed:
    """The last committed micro-batch: its seq (0 before the first) and where each file then stood.

    Of a file only the byte offset is known here: its records are for the reader to count.
    """

    seq: int = 0
    bytes: Mapping[str, int] = field(default_factory=dict[str, int])


def checkpoint_of(lake: Lake) -> Path:
    """The checkpoint's folder."""
    return lake.stream / "checkpoint"


def consumed(lake: Lake) -> Consumed:
    """What is committed; ValueError naming an offset file that is missing or cannot be read."""
    batch = _newest(lake, "commits")
    if batch is None:
        return Consumed()
    path = checkpoint_of(lake) / "offsets" / str(batch)
    try:
        offset: Any = json.loads(path.read_text("utf-8").splitlines()[-1])
        return Consumed(batch + 1, {name: int(at["bytes"]) for name, at in offset.items()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: gives no offset of the landing log ({error}): restore the checkpoint"
        ) from error


def planned_seq(lake: Lake) -> int:
    """The highest seq that the stream can have written: of the batch under way, if there is one."""
    batch = _newest(lake, "offsets")
    return 0 if batch is None else batch + 1


def _newest(lake: Lake, log: str) -> int | None:
    folder = checkpoint_of(lake) / log
    batches = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    return max(batches, default=None)
