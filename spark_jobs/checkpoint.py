"""What Spark's checkpoint of the stream says: how far each source is taken, and committed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_contracts.atomic_write import write_atomically
from data_contracts.lake import Lake

_HEAD = 2
"""Lines of an offset file before those of the sources: its version and the batch's metadata."""

Offset = dict[str, dict[str, int]]
"""File name -> bytes and lines consumed."""

Offsets = dict[int, tuple[int, int]]
"""Kafka partition -> its offset at the lake's very first batch, and the one to be taken next."""


@dataclass(frozen=True)
class Epoch:
    """The life of one checkpoint: each that is lost is followed by the next epoch."""

    number: int = 0
    seq: int = 0
    """Seqs up to this were, or may have been, given by earlier epochs."""
    start: Offset = field(default_factory=Offset)
    """Where the epoch begins to read: all lines before stand in a table."""
    beyond: Mapping[str, list[int]] = field(default_factory=dict[str, list[int]])
    """Origin -> lines after its start that stand in a table all the same."""
    topic: str | None = None
    """The Kafka topic; None where the lake has none, or an older build began it."""
    offsets: Offsets = field(default_factory=Offsets)
    """Where its partitions began, and where the epoch begins: one that is not here, at 0."""


@dataclass(frozen=True)
class Consumed:
    """The last committed micro-batch: its seq (0 before the first) and where the sources stood.

    Of a file only the byte offset is known here: its records are for the reader to count.
    """

    seq: int = 0
    bytes: Mapping[str, int] = field(default_factory=dict[str, int])
    offsets: Offsets = field(default_factory=Offsets)
    topic: str | None = None
    """The Kafka topic of those partitions."""


def checkpoint_of(lake: Lake) -> Path:
    """The checkpoint's folder."""
    return lake.stream / "checkpoint"


def epoch_file(lake: Lake) -> Path:
    """Where the epoch is kept, beside the checkpoint; the first has a file only with a topic."""
    return lake.stream / "epoch.json"


def read_epoch(path: Path) -> Epoch:
    """The epoch in that file; the first where there is none."""
    if not path.exists():
        return Epoch()
    said = json.loads(path.read_text("utf-8"))
    offsets = {int(partition): tuple(at) for partition, at in said.get("offsets", {}).items()}
    return Epoch(**{**said, "offsets": offsets})


def write_epoch(path: Path, epoch: Epoch) -> None:
    """Replace the file."""
    write_atomically(path, json.dumps(vars(epoch)))


def consumed(lake: Lake) -> Consumed:
    """What is committed; ValueError naming an offset file that is missing or cannot be read."""
    epoch = read_epoch(epoch_file(lake))
    batch = _newest(lake, "commits")
    if batch is None:
        start = {name: at["bytes"] for name, at in epoch.start.items()}
        return Consumed(epoch.seq, start, epoch.offsets, epoch.topic)
    path = checkpoint_of(lake) / "offsets" / str(batch)
    try:
        landing, *kafka = path.read_text("utf-8").splitlines()[_HEAD:]
        files = {name: int(at["bytes"]) for name, at in _offset(landing).items()}
        topic, taken = next(iter(_offset(*kafka).items()), (None, {}))
        first = {partition: at for partition, (at, _) in epoch.offsets.items()}
        if topic and not epoch.topic:
            first = _first_offsets(lake, topic)
        offsets = {
            partition: (first.get(partition, 0), at) for partition, at in _numbers(taken).items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: gives no offset of the landing log ({error}): restore the checkpoint"
        ) from error
    return Consumed(epoch.seq + batch + 1, files, offsets, topic)


def consumed_of_sources(lake: Lake) -> Consumed:
    """As `consumed`; ValueError where the lake was begun with another topic than it has now."""
    found = consumed(lake)
    if found.seq or found.topic:
        check_topic(lake, found.topic)
    return found


def check_topic(lake: Lake, begun_with: str | None) -> None:
    """ValueError where the lake, begun with that topic, has another one now."""
    named = lake.kafka.topic if lake.kafka else None
    if begun_with != named:
        raise ValueError(
            f"{checkpoint_of(lake)}: was begun with {_said(begun_with)}, not with {_said(named)}: "
            "name that one (--kafka, HEADRACE_KAFKA), or start from an empty root"
        )


def planned_seq(lake: Lake) -> int:
    """The highest seq that the stream can have written: of the batch under way, if there is one."""
    batch = _newest(lake, "offsets")
    return read_epoch(epoch_file(lake)).seq + (0 if batch is None else batch + 1)


def holds_batches(lake: Lake) -> bool:
    """Whether the checkpoint holds a batch, planned or committed."""
    return _newest(lake, "offsets") is not None


def _offset(*line: str) -> dict[str, Any]:
    """One source's line of an offset file; empty where it has none or had nothing yet."""
    return {} if line in ((), ("-",)) else json.loads(*line)


def _first_offsets(lake: Lake, topic: str) -> dict[int, int]:
    """What Spark noted of the topic before its first batch."""
    path = checkpoint_of(lake) / "sources" / "1" / "0"
    return _numbers(_offset(path.read_text("utf-8").splitlines()[-1])[topic])


def _numbers(partitions: dict[str, int]) -> dict[int, int]:
    return {int(partition): int(offset) for partition, offset in partitions.items()}


def _said(topic: str | None) -> str:
    return f"the Kafka topic {topic}" if topic else "no Kafka topic"


def _newest(lake: Lake, log: str) -> int | None:
    folder = checkpoint_of(lake) / log
    batches = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    return max(batches, default=None)
