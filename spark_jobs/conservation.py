"""Conservation: every record of the landing log is in exactly one of the tables.

The source is counted here by itself, with none of the ingest path's code.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from data_contracts.lake import Lake
from data_contracts.landing import GROWING
from spark_jobs.tables import exists, load


@dataclass(frozen=True)
class Conservation:
    """Records in the landing log, and where they ended."""

    records: int
    events: int
    duplicates: int
    conflicts: int
    quarantined: int
    wrong_origins: tuple[str, ...]
    """Files whose lines are not each in exactly one table."""

    @property
    def holds(self) -> bool:
        """Whether nothing was lost and nothing counted twice."""
        ended = self.events + self.duplicates + self.conflicts + self.quarantined
        return self.records == ended and not self.wrong_origins


def conservation(spark: SparkSession, lake: Lake) -> Conservation:
    """Count the landing log, line by line, against the tables."""
    source = {path.name: _lines(path) for path in sorted(lake.landing.glob("*.jsonl"))}
    ended = _ended(spark, lake)
    wrong = sorted(
        {name for name, lines in source.items() if ended.get(name, (0, 0, 0)) != _whole(lines)}
        | {name for name in ended if name not in source}
    )
    totals = _totals(spark, lake)
    return Conservation(
        records=sum(source.values()),
        events=totals.get("events", 0),
        duplicates=totals.get("duplicates", 0),
        conflicts=totals.get("conflict", 0),
        quarantined=totals.get("quarantine", 0),
        wrong_origins=tuple(wrong),
    )


def _whole(lines: int) -> tuple[int, int, int]:
    """(records, distinct lines, last line) of a file that ended whole."""
    return (lines, lines, lines) if lines else (0, 0, 0)


def _lines(path: object) -> int:
    with open(str(path), "rb") as file:
        count, last = 0, b"\n"
        while block := file.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
    torn = last != b"\n" and not str(path).rsplit("/", 1)[-1].startswith(GROWING)
    return count + torn


def _ended(spark: SparkSession, lake: Lake) -> dict[str, tuple[int, int, int]]:
    tables = [lake.events, lake.duplicates, lake.quarantine]
    frames = [load(spark, path).select("origin", "line") for path in tables if exists(spark, path)]
    if not frames:
        return {}
    every: DataFrame = frames[0]
    for frame in frames[1:]:
        every = every.unionByName(frame)
    counted = every.groupBy("origin").agg(
        sf.count("*").alias("n"),
        sf.count_distinct("line").alias("distinct"),
        sf.max("line").alias("last"),
    )
    return {row["origin"]: (row["n"], row["distinct"], row["last"]) for row in counted.collect()}


def _totals(spark: SparkSession, lake: Lake) -> dict[str, int]:
    totals: dict[str, int] = {}
    for name, path in (("events", lake.events), ("duplicates", lake.duplicates)):
        if exists(spark, path):
            totals[name] = load(spark, path).count()
    if exists(spark, lake.quarantine):
        for row in load(spark, lake.quarantine).groupBy("verdict").count().collect():
            totals[row["verdict"]] = row["count"]
    return totals
