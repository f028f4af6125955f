"""`python -m tests.spark.kafka_writer ROOT KAFKA [STAGE]`: ingests what is there.

At STAGE, `before_append` or `after_append` of a batch, `before_duplicates` or `before_quarantine`
within it, it dies by kill -9.
"""

import os
import signal
import sys
from pathlib import Path

from pyspark.sql.types import StructType

from data_contracts.kafka import KafkaTopic
from data_contracts.lake import Lake
from data_contracts.use_case import load_use_case
from spark_jobs import stream
from spark_jobs.admission import Admission, Row
from spark_jobs.session import spark_session


class Dying(stream.MicroBatches):
    """Processes a batch up to its stage and dies there."""

    stage = "before_append"

    def append(self, admission: Admission, seq: int) -> None:
        if self.stage != "before_append":
            super().append(admission, seq)
        os.kill(os.getpid(), signal.SIGKILL)

    def _append_rows(self, rows: list[Row], schema: StructType, table: str, seq: int) -> None:
        if self.stage == f"before_{table}":
            os.kill(os.getpid(), signal.SIGKILL)
        super()._append_rows(rows, schema, table, seq)


def main(root: Path, url: str, stage: str = "") -> None:
    if stage:
        Dying.stage = stage
        stream.MicroBatches = Dying
    use_case = load_use_case("clicks")
    lake = Lake(root, use_case.name, KafkaTopic.parse(url))
    stream.ingest_available(spark_session(root / "writer.log"), use_case, lake)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
