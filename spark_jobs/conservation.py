"""Conservation: every record of the landing log is in exactly one of the tables.

The source is counted here by itself, with none of the ingest path's code.
"""

from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as sf

from data_contracts.lake import Lake
from data_contracts.landing import GROWING
from spark_jobs.tables import exists, load

_KINDS = ("events", "duplicates", "conflicts", "quarantined")


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
    whole = {row["origin"]: row["n"] for row in ended if row["n"] == row["distinct"] == row["last"]}
    names = {name for name, lines in source.items() if lines} | {row["origin"] for row in ended}
    wrong = [name for name in sorted(names) if source.get(name) != whole.get(name, -1)]
    return Conservation(
        records=sum(source.values()),
        **{kind: sum(row[kind] for row in ended) for kind in _KINDS},
        wrong_origins=tuple(wrong),
    )


def _lines(path: Path) -> int:
    with open(path, "rb") as file:
        count, last = 0, b"\n"
        while block := file.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
    torn = last != b"\n" and not path.name.startswith(GROWING)
    return count + torn


def _ended(spark: SparkSession, lake: Lake) -> list[Row]:
    """Per origin: records `n`, `distinct` lines, the `last` line, and how many of each kind."""
    verdict = sf.when(sf.col("verdict") == "conflict", "conflicts").otherwise("quarantined")
    tables = {
        lake.events: sf.lit("events"),
        lake.duplicates: sf.lit("duplicates"),
        lake.quarantine: verdict,
    }
    frames = [
        load(spark, path).select("origin", "line", kind.alias("kind"))
        for path, kind in tables.items()
        if exists(spark, path)
    ]
    if not frames:
        return []
    counted = reduce(DataFrame.unionByName, frames).groupBy("origin").agg(
        sf.count("*").alias("n"),
        sf.count_distinct("line").alias("distinct"),
        sf.max("line").alias("last"),
        *(sf.count_if(sf.col("kind") == kind).alias(kind) for kind in _KINDS),
    )  # fmt: skip
    return counted.collect()
