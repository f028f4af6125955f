"""A new epoch: the stream goes on without its checkpoint, and counts nothing twice.

What a lost checkpoint knew is found again in the tables: which lines of which file they hold. The
new one begins after the last line up to which each file is recorded whole; of a batch that died
between its tables, the lines that one of them holds are skipped when they come again.
"""

from collections.abc import Iterator
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as sf

from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.batch_start import begun_file, last_begun
from spark_jobs.checkpoint import (
    Epoch,
    Offset,
    checkpoint_of,
    epoch_file,
    holds_batches,
    planned_seq,
    read_epoch,
    write_epoch,
)
from spark_jobs.lake_lease import lake_lease
from spark_jobs.tables import exists, load, newest_seq
from spark_jobs.view_keeper import forget_states

_BLOCK = 1 << 20
_FILES_ONLY = (
    "{}: a new epoch begins with files only: restore the checkpoint, or start from an empty root"
)


def check_checkpoint(spark: SparkSession, lake: Lake) -> None:
    """ValueError where a batch began that the checkpoint never planned: it is gone, or an older one
    was put in its place, and would cut new batches under seqs that are taken."""
    planned = planned_seq(lake)
    held = {path: newest_seq(spark, path) for path in _written(spark, lake)}
    if (begun := last_begun(lake)) is not None:
        # It may have come into the online store and died before its append.
        held[begun_file(lake)] = begun.seq
    newest = max(held, key=held.__getitem__, default=None)
    if newest is None or held[newest] <= planned:
        return
    wrong, away = f"gone, but {newest} holds batches that it counted", ""
    if holds_batches(lake):
        wrong = f"has planned batches up to {planned}, and {newest} holds batch {held[newest]}"
        away = "move this one away and "
    anew = f"{away}start another with `headrace ingest --new-epoch`"
    if lake.kafka:
        anew = f"start from an empty root, since no new epoch begins with {lake.kafka}"
    raise ValueError(f"{checkpoint_of(lake)}: {wrong}: restore the newest checkpoint, or {anew}")


def begin_epoch(spark: SparkSession, use_case: UseCase, lake: Lake) -> Epoch:
    """Make the next stream start a fresh checkpoint; the online store is empty then, to be rebuilt:
    it may hold a batch that died before its append.

    ValueError where there is a checkpoint, where a file lacks lines that the tables hold, or where
    the lake takes a Kafka topic too: its offsets cannot be found again.
    """
    if lake.kafka:
        raise ValueError(_FILES_ONLY.format(lake.kafka))
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
        start, beyond = _recorded(spark, lake, written) if written else ({}, {})
        # The batch that died last may have been read online under the next seq.
        taken = max(newest + 1, begun.seq if begun else 0)
        epoch = Epoch(last.number + 1, taken, start, beyond)
        forget_states(use_case, lake)
        write_epoch(epoch_file(lake), epoch)
        return epoch


def _written(spark: SparkSession, lake: Lake) -> list[Path]:
    tables = (lake.events, lake.duplicates, lake.quarantine)
    return [path for path in tables if exists(spark, path)]


def _recorded(
    spark: SparkSession, lake: Lake, tables: list[Path]
) -> tuple[Offset, dict[str, list[int]]]:
    """Where each file is recorded up to without a gap, and the recorded lines beyond."""
    frames = [load(spark, path).select("origin", "line") for path in tables]
    lines = reduce(DataFrame.unionByName, frames).distinct()
    # A file's name has no slash, `topic/partition` has one.
    if (taken := lines.where(sf.col("origin").contains("/")).first()) is not None:
        raise ValueError(_FILES_ONLY.format(taken["origin"]))
    nth = sf.row_number().over(Window.partitionBy("origin").orderBy("line"))
    lines = lines.withColumn("whole", sf.col("line") == nth)
    beyond: dict[str, list[int]] = {}
    for row in lines.where("NOT whole").orderBy("origin", "line").toLocalIterator():
        beyond.setdefault(row["origin"], []).append(row["line"])
    counted = lines.groupBy("origin").agg(sf.count_if("whole").alias("lines")).where("lines > 0")
    start = {
        origin: {"bytes": _end_of(lake.landing / origin, count), "lines": count}
        for origin, count in counted.collect()
    }
    return start, beyond


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
