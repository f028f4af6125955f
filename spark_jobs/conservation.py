"""Conservation: every record that the stream has consumed is in exactly one of the tables.

The source is counted here by itself, with none of the ingest path's code: of the checkpoint only
the offsets are taken, and the records up to them are counted in the files; of a Kafka partition the
broker says which offsets it holds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as sf

from data_contracts.lake import Lake
from data_contracts.landing import GROWING
from spark_jobs.checkpoint import (
    Consumed,
    consumed_of_sources,
    epoch_file,
    planned_seq,
    read_epoch,
)
from spark_jobs.kafka import Held, held
from spark_jobs.tables import exists, load

_KINDS = ("events", "duplicates", "conflicts", "quarantined", "expired")
_BLOCK = 1 << 20

Span = tuple[int, int]
"""Line or offset of the first record, and the one after the last."""

Partitions = dict[int, Held]


@dataclass(frozen=True)
class Conservation:
    """Records of the sources up to the last committed micro-batch, and where they ended."""

    records: int
    events: int
    duplicates: int
    conflicts: int
    quarantined: int
    expired: int
    waiting: int
    """Records that have landed beyond it; the batch under way may hold some of them."""
    wrong_origins: tuple[str, ...]
    """Origins whose consumed records are not each in exactly one table; files that end before the
    offset or have it within a line; partitions that end before it, or that removed what comes next;
    and the origins of rows that no batch of the checkpoint can have written."""

    @property
    def holds(self) -> bool:
        """Whether nothing consumed was lost and nothing counted twice."""
        ended = sum(getattr(self, kind) for kind in _KINDS)
        return self.records == ended and not self.wrong_origins


def conservation(spark: SparkSession, lake: Lake) -> Conservation:
    """Count the sources, record by record, against the tables; a stream may be running.

    Raises as `consumed_of_sources` and, where the lake has a topic, `kafka.held` do.
    """
    upto = consumed_of_sources(lake)
    source = {name: _lines(lake.landing / name, size) for name, size in upto.bytes.items()}
    partitions = _partitions(spark, lake)
    source |= _taken(lake, partitions, upto)
    ended = _ended(spark, lake, upto.seq, _ahead(lake, source))
    planned = planned_seq(lake)
    whole = {
        row["origin"]: (row["first"], row["last"] + 1)
        for row in ended
        if row["n"] and row["n"] == row["distinct"] == row["last"] - row["first"] + 1
    }
    names = {*source, *(row["origin"] for row in ended if row["n"])}
    wrong = {name for name in names if source.get(name) != whole.get(name, ())}
    wrong |= {row["origin"] for row in ended if row["newest"] > planned}
    return Conservation(
        records=sum(end - first for first, end in filter(None, source.values())),
        **{kind: sum(row[kind] for row in ended) for kind in _KINDS},
        waiting=_waiting(lake, partitions, upto),
        wrong_origins=tuple(sorted(wrong)),
    )


def waiting(spark: SparkSession, lake: Lake) -> int:
    """Records that have landed beyond the last committed micro-batch; raises as `conservation`."""
    upto = consumed_of_sources(lake)
    return _waiting(lake, _partitions(spark, lake), upto)


def _waiting(lake: Lake, partitions: Partitions, upto: Consumed) -> int:
    paths = sorted(lake.landing.glob("*.jsonl"))
    landed = sum(_beyond(path, upto.bytes.get(path.name, 0)) for path in paths)
    ends = {partition: end for partition, (_, end) in upto.offsets.items()}
    left = (span.end - max(span.begin, ends.get(p, 0)) for p, span in partitions.items())
    return landed + sum(max(0, count) for count in left)


def _partitions(spark: SparkSession, lake: Lake) -> Partitions:
    return held(spark, lake.kafka) if lake.kafka else {}


def _taken(lake: Lake, partitions: Partitions, upto: Consumed) -> dict[str, Span | None]:
    """Origin -> its offsets taken, but for partitions of which nothing was; None where the broker
    does not hold the offset at which the next batch begins, or holds some before the very first."""
    spans: dict[str, Span | None] = {}
    for partition, (first, end) in upto.offsets.items():
        span = partitions.get(partition, Held(0, 0))
        there = span.begin <= end <= span.end and first <= span.begin
        if lake.kafka and not (there and first == end):
            spans[lake.kafka.origin(partition)] = (first, end) if there else None
    return spans


def _lines(path: Path, size: int) -> Span | None:
    """Lines in the first `size` bytes; None when they are not all there or end within a line."""
    if not path.is_file() or path.stat().st_size < size:
        return None
    with open(path, "rb") as file:
        count, last = _newlines(file.read(min(_BLOCK, size - at)) for at in range(0, size, _BLOCK))
        more = file.read(1)
    if last == b"\n":
        return 1, count + 1
    return None if more or path.name.startswith(GROWING) else (1, count + 2)


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


def _ahead(lake: Lake, source: Mapping[str, Span | None]) -> list[tuple[str, int]]:
    """(origin, line) of records that an earlier epoch left in a table, not consumed in this yet."""
    beyond = read_epoch(epoch_file(lake)).beyond
    every = ((name, line) for name, lines in beyond.items() for line in lines)
    return [(name, line) for name, line in every if line >= (source.get(name) or (0, 0))[1]]


def _ended(
    spark: SparkSession, lake: Lake, seq: int, ahead: Sequence[tuple[str, int]]
) -> list[Row]:
    """Per origin: the `newest` seq of its rows, and of those up to `seq` that are not `ahead`:
    records `n`, `distinct` lines, the `first` and `last` of them (null where there is none), and
    how many of each kind."""
    conflict, expired = (sf.col("verdict") == verdict for verdict in ("conflict", "expired"))
    kind = sf.when(conflict, "conflicts").when(expired, "expired").otherwise("quarantined")
    tables = {
        lake.events: sf.lit("events"),
        lake.duplicates: sf.lit("duplicates"),
        lake.quarantine: kind,
    }
    frames = [
        load(spark, path).select("origin", "line", "seq", kind.alias("kind"))
        for path, kind in tables.items()
        if exists(spark, path)
    ]
    if not frames:
        return []
    rows = reduce(DataFrame.unionByName, frames)
    if ahead:
        places = spark.createDataFrame(list(ahead), "origin string, line bigint")
        rows = rows.join(sf.broadcast(places), ["origin", "line"], "left_anti")
    committed = sf.col("seq") <= seq
    line = sf.when(committed, sf.col("line"))
    counted = rows.groupBy("origin").agg(
        sf.max("seq").alias("newest"),
        sf.count_if(committed).alias("n"),
        sf.count_distinct(line).alias("distinct"),
        sf.min(line).alias("first"),
        sf.max(line).alias("last"),
        *(sf.count_if(committed & (sf.col("kind") == kind)).alias(kind) for kind in _KINDS),
    )  # fmt: skip
    return counted.collect()
