"""The quarantine: what lies in it and why, and what of it the contract takes by now."""

from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import SystemClock
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from spark_jobs.gate import judge
from spark_jobs.tables import exists, load


def quarantined(spark: SparkSession, lake: Lake) -> list[dict[str, Any]]:
    """Per verdict and reason: how many records, and the origin and line of the first.

    A record with several reasons counts under each.
    """
    if not exists(spark, lake.quarantine):
        return []
    reason = sf.explode(sf.split("reasons", "; "))
    rows = load(spark, lake.quarantine).select("verdict", reason.alias("reason"), "origin", "line")
    counted = rows.groupBy("verdict", "reason").agg(
        sf.count("*").alias("records"),
        sf.min(sf.struct("origin", "line")).alias("first"),
    )
    ordered = counted.orderBy(sf.desc("records"), "verdict", "reason").collect()
    return [
        {"verdict": row["verdict"], "reason": row["reason"], "records": row["records"],
         "first": f"{row['first']['origin']}:{row['first']['line']}"}
        for row in ordered
    ]  # fmt: skip


def mended(spark: SparkSession, use_case: UseCase, lake: Lake, out: Path) -> int:
    """Write the quarantined records that today's contract takes to the file `out`, a line each.

    Returns how many. A record is judged as one that arrives now, as it will when it lands: what was
    of the future once, or by a clock that was slow, need not be. Conflicts stay: their id is taken.
    """
    if not exists(spark, lake.quarantine):
        return 0
    refused = load(spark, lake.quarantine).where("verdict <> 'conflict'")
    rows = refused.orderBy("origin", "line").select("origin", "line", "payload").toLocalIterator()
    count, now = 0, SystemClock().now()
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "wb") as file:
        for row in rows:
            payload = bytes(row["payload"])
            place = row["origin"], row["line"]
            verdict = judge(use_case.contract, *place, payload, now)
            if verdict.get("reasons") is None:
                # Between the tokens of JSON a line's end is space, within them there is none.
                file.write(payload.replace(b"\n", b" ") + b"\n")
                count += 1
    return count
