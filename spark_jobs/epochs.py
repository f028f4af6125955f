"""A new epoch: the stream goes on without its checkpoint, and counts nothing twice.

What a lost checkpoint knew is found again in the tables: which lines of which file, and which
offsets of which partition, they hold. The new one begins after the last up to which each is
recorded whole; of a batch that died between its tables, what one of them holds is skipped when it
comes again. Only the offset at which a partition began is in no table: the epoch keeps it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as sf

from data_contracts.kafka import KafkaTopic
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.batch_start import begun_file, last_begun
from spark_jobs.checkpoint import (
    Consumed,
    Epoch,
    Offsets,
    check_topic,
    checkpoint_of,
    epoch_file,
    holds_batches,
    planned_seq,
    read_epoch,
    write_epoch,
)
from spark_jobs.kafka import check_held, held
from spark_jobs.lake_lease import lake_lease
from spark_jobs.tables import exists, load, newest_seq
from spark_jobs.view_keeper import forget_states

_BLOCK = 1 << 20


def check_checkpoint(spark: SparkSession, lake: Lake) -> None:
    """ValueError where a batch began that the checkpoint never planned: it is gone, or an older one
    was put in its place, and would cut new batches under seqs that are taken."""
    planned = planned_seq(lake)
    seqs = {path: newest_seq(spark, path) for path in _written(spark, lake)}
    if (begun := last_begun(lake)) is not None:
        # It may have come into the online store and died before its append.
        seqs[begun_file(lake)] = begun.seq
    newest = max(seqs, key=seqs.__getitem__, default=None)
    if newest is None or seqs[newest] <= planned:
        return
    wrong, away = f"gone, but {newest} holds batches that it counted", ""
    if holds_batches(lake):
        wrong = f"has planned batches up to {planned}, and {newest} holds batch {seqs[newest]}"
        away = "move this one away and "
    raise ValueError(
        f"{checkpoint_of(lake)}: {wrong}: restore the newest checkpoint, or {away}start another "
        "with `headrace ingest --new-epoch`"
    )


def begin_topic(spark: SparkSession, lake: Lake, topic: KafkaTopic, upto: Consumed) -> Epoch:
    """The epoch, which keeps where the partitions of its topic began from the first start on.

    Raises as `kafka.held` does.
    """
    epoch = read_epoch(epoch_file(lake))
    if epoch.topic is None:
        first = {partition: at for partition, (at, _) in upto.offsets.items()}
        first = first or {partition: span.begin for partition, span in held(spark, topic).items()}
        offsets = {partition: (at, at) for partition, at in first.items()}
        epoch = replace(epoch, topic=topic.topic, offsets=offsets)
        write_epoch(epoch_file(lake), epoch)
    return epoch


def begin_epoch(spark: SparkSession, use_case: UseCase, lake: Lake) -> Epoch:
    """Make the next stream start a fresh checkpoint; the online store is empty then, to be rebuilt:
    it may hold a batch that died before its append.

    ValueError where there is a checkpoint, where a file lacks lines that the tables hold, or where
    the topic is not the one that the lake was begun with. Raises as `check_held` does, too.
    """
    with lake_lease(lake):
        if checkpoint_of(lake).exists():
            raise ValueError(
                f"{checkpoint_of(lake)}: is there: run without --new-epoch, or move it away first "
                "if it cannot be read or is older than the tables"
            )
        last = read_epoch(epoch_file(lake))
        written = _written(spark, lake)
        newest = max([last.seq, *(newest_seq(spark, path) for path in written)])
        begun = last_begun(lake)
        lines = _recorded(spark, written, last)
        whole = _whole(lines)
        topics = (origin.partition("/")[0] for origin in whole if "/" in origin)
        topic = last.topic or next(topics, None)
        check_topic(lake, topic)
        offsets = _offsets(last, whole)
        if lake.kafka:
            check_held(spark, lake.kafka, offsets)
        start = {
            name: {"bytes": _end_of(lake.landing / name, count), "lines": count}
            for name, count in whole.items()
            if count and "/" not in name
        }
        # The batch that died last may have been read online under the next seq.
        taken = max(newest + 1, begun.seq if begun else 0)
        epoch = Epoch(last.number + 1, taken, start, _beyond(lines), topic, offsets)
        forget_states(use_case, lake)
        write_epoch(epoch_file(lake), epoch)
        return epoch


def _written(spark: SparkSession, lake: Lake) -> list[Path]:
    tables = (lake.events, lake.duplicates, lake.quarantine)
    return [path for path in tables if exists(spark, path)]


def _recorded(spark: SparkSession, tables: list[Path], last: Epoch) -> DataFrame:
    """Every `origin` and `line` of the tables, and whether it is recorded `whole` up to there."""
    begun = [(f"{last.topic}/{partition}", first) for partition, (first, _) in last.offsets.items()]
    first = spark.createDataFrame(begun, "origin string, first bigint")
    lines = spark.createDataFrame([], "origin string, line bigint")
    for path in tables:
        lines = lines.unionByName(load(spark, path).select("origin", "line"))
    lines = lines.distinct().join(sf.broadcast(first), "origin", "left")
    nth = sf.row_number().over(Window.partitionBy("origin").orderBy("line"))
    # A file's name has no slash, `topic/partition` has one.
    from_0 = sf.coalesce("first", sf.when(sf.col("origin").contains("/"), 0).otherwise(1))
    return lines.select("origin", "line", (sf.col("line") == from_0 + nth - 1).alias("whole"))


def _whole(lines: DataFrame) -> dict[str, int]:
    """Origin -> how many of its records are recorded without a gap."""
    counted = lines.groupBy("origin").agg(sf.count_if("whole").alias("lines"))
    return {row["origin"]: row["lines"] for row in counted.collect()}


def _beyond(lines: DataFrame) -> dict[str, list[int]]:
    """Origin -> its recorded lines after a gap."""
    beyond: dict[str, list[int]] = {}
    for row in lines.where("NOT whole").orderBy("origin", "line").toLocalIterator():
        beyond.setdefault(row["origin"], []).append(row["line"])
    return beyond


def _offsets(last: Epoch, whole: Mapping[str, int]) -> Offsets:
    """Where the topic's partitions began, and up to where each is recorded without a gap."""
    offsets = {partition: (first, first) for partition, (first, _) in last.offsets.items()}
    for origin, count in whole.items():
        _, of_topic, partition = origin.partition("/")
        if of_topic:
            first, _ = offsets.get(int(partition), (0, 0))
            offsets[int(partition)] = first, first + count
    return offsets


def _end_of(path: Path, lines: int) -> int:
    """The byte after the first `lines` (at least one) of a file; its last may lack a newline."""
    left, end, last = lines, 0, b"\n"
    for block in _blocks(path):
        if (here := block.count(b"\n")) >= left:
            at = -1
            for _ in range(left):
                at = block.index(b"\n", at + 1)
            return end + at + 1
        left, end, last = left - here, end + len(block), block[-1:]
    if left > 1 or last == b"\n":
        raise ValueError(
            f"{path}: holds fewer than the {lines} lines that the tables have of it: restore it"
        )
    return end


def _blocks(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with open(path, "rb") as file:
            yield from iter(lambda: file.read(_BLOCK), b"")
