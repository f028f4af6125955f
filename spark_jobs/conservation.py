"""Conservation: every record that the stream has consumed is in exactly one of the tables.

The source is counted here by itself, with none of the ingest path's code: of the checkpoint only
the byte offsets are taken, and the records up to them are counted in the files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as sf

from data_contracts.lake import Lake
from data_contracts.landing import GROWING
from spark_jobs.checkpoint import Consumed, consumed, planned_seq
from spark_jobs.tables import exists, load

_KINDS = ("events", "duplicates", "conflicts", "quarantined")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Conservation:
    """Records of the landing log up to the last committed micro-batch, and where they ended."""

    records: int
    events: int
    duplicates: int
    conflicts: int
    quarantined: int
    waiting: int
    """Records that have landed beyond it; the batch under way may hold some of them."""
    wrong_origins: tuple[str, ...]
    """Files whose consumed lines are not each in exactly one table, that end before the offset or
    have it within a line, and files of rows that no batch of the checkpoint can have written."""

    @property
    def holds(self) -> bool:
        """Whether nothing consumed was lost and nothing counted twice."""
        ended = self.events + self.duplicates + self.conflicts + self.quarantined
        return self.records == ended and not self.wrong_origins


def conservation(spark: SparkSession, lake: Lake) -> Conservation:
    """Count the landing log, line by line, against the tables; a stream may be running."""
    upto = consumed(lake)
    ended = _ended(spark, lake, upto.seq)
    planned = planned_seq(lake)
    source = {name: _lines(lake.landing / name, size) for name, size in upto.bytes.items()}
    whole = {row["origin"]: row["n"] for row in ended if row["n"] == row["distinct"] == row["last"]}
    names = {*source, *(row["origin"] for row in ended if row["n"])}
    wrong = {name for name in names if source.get(name) != whole.get(name, -1)}
    wrong |= {row["origin"] for row in ended if row["newest"] > planned}
    return Conservation(
        records=sum(lines for lines in source.values() if lines),
        **{kind: sum(row[kind] for row in ended) for kind in _KINDS},
        waiting=_waiting(lake, upto),
        wrong_origins=tuple(sorted(wrong)),
    )


def waiting(lake: Lake) -> int:
    """Records that have landed beyond the last committed micro-batch."""
    return _waiting(lake, consumed(lake))


def _waiting(lake: Lake, upto: Consumed) -> int:
    paths = sorted(lake.landing.glob("*.jsonl"))
    return sum(_beyond(path, upto.bytes.get(path.name, 0)) for path in paths)


def _lines(path: Path, size: int) -> int | None:
    """Records in the first `size` bytes; None when they are not all there or end within a line."""
    if not path.is_file() or path.stat().st_size < size:
        return None
    with open(path, "rb") as file:
        count, last = _newlines(file.read(min(_BLOCK, size - at)) for at in range(0, size, _BLOCK))
        more = file.read(1)
    if last == b"\n":
        return count
    return None if more or path.name.startswith(GROWING) else count + 1


def _beyond(path: Path, start: int) -> int:
    """Records after the first `start` bytes."""
    with open(path, "rb") as file:
        file.seek(start)
        count, last = _newlines(iter(lambda: file.read(_BLOCK), b""))
    return count + (last != b"\n" and not path.name.startswith(GROWING))


def _newlines(blocks: Iterator[bytes]) -> tuple[int, bytes]:
    """How many there are, and the last byte; a newline where there is none."""
    count, last = 0, b"\n"
    for block in blocks:
        count += block.count(b"\n")
        last = block[-1:]
    return count, last


def _ended(spark: SparkSession, lake: Lake, seq: int) -> list[Row]:
    """Per origin: the `newest` seq of its rows, and of those up to `seq`: records `n`, `distinct`
    lines, the `last` line (0 where there is none), and how many of each kind."""
    verdict = sf.when(sf.col("verdict") == "conflict", "conflicts").otherwise("quarantined")
    tables = {
        lake.events: sf.lit("events"),
        lake.duplicates: sf.lit("duplicates"),
        lake.quarantine: verdict,
    }
    frames = [
        load(spark, path).select("origin", "line", "seq", kind.alias("kind"))
        for path, kind in tables.items()
        if exists(spark, path)
    ]
    if not frames:
        return []
    committed = sf.col("seq") <= seq
    line = sf.when(committed, sf.col("line"))
    counted = reduce(DataFrame.unionByName, frames).groupBy("origin").agg(
        sf.max("seq").alias("newest"),
        sf.count_if(committed).alias("n"),
        sf.count_distinct(line).alias("distinct"),
        sf.coalesce(sf.max(line), sf.lit(0)).alias("last"),
        *(sf.count_if(committed & (sf.col("kind") == kind)).alias(kind) for kind in _KINDS),
    )  # fmt: skip
    return counted.collect()
