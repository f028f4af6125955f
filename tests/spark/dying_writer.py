"""`python -m tests.spark.dying_writer ROOT STAGE`: a writer that dies by kill -9 in a micro-batch.

STAGE is `before_append` or `after_append`: of the events, which is after the online merge.
"""

import os
import signal
import sys
from pathlib import Path

from data_contracts.lake import Lake
from data_contracts.use_case import load_use_case
from spark_jobs import stream
from spark_jobs.admission import Admission
from spark_jobs.session import spark_session


class Dying(stream.MicroBatches):
    """Processes a batch up to its append and dies there."""

    stage = "before_append"

    def append(self, admission: Admission, seq: int) -> None:
        if self.stage == "after_append":
            super().append(admission, seq)
        os.kill(os.getpid(), signal.SIGKILL)


def main(root: Path, stage: str) -> None:
    Dying.stage = stage
    stream.MicroBatches = Dying
    use_case = load_use_case("clicks")
    spark = spark_session(root / "dying.log")
    stream.ingest_available(spark, use_case, Lake(root, use_case.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
