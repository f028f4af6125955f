"""`python -m tests.spark.dying_writer USE_CASE FOLDER PLACE…`: writers that all die by one kill -9.

Every place has a lake of its own, `FOLDER/PLACE`. Its writer works up to that place and stands
still there; when all stand, the whole process group is killed, Spark's JVM with it.
"""

import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.states import State
from data_contracts.use_case import UseCase, load_use_case
from spark_jobs import materialize, stream, tiles, view_keeper
from spark_jobs.admission import Admission, Row
from spark_jobs.checkpoint import checkpoint_of
from spark_jobs.feature_store import OnlineStates
from spark_jobs.session import spark_session
from spark_jobs.tables import append_once, replace
from spark_jobs.writer import BatchWriter

IN_A_BATCH = (
    "before the gate",
    "after the gate",
    "after the dedupe",
    "amid the first group",
    "between two groups",
    "amid the last group",
    "before the append",
    "amid the append",
    "before the duplicates",
    "before the quarantine",
    "after the append",
    "after the commit",
)
"""Places of a micro-batch, in its order."""

BEHIND_IT = ("amid materialize", "amid a backfill")
"""Places of the jobs that run beside the stream."""

PATIENCE_S = 200

reached: dict[str, threading.Event] = {}


def stand_at(lake: Lake, place: str) -> None:
    """Stand still for good, if this is the place of this lake."""
    if lake.root.name == place:
        reached[place].set()
        threading.Event().wait()


class Dying(stream.MicroBatches):
    """A stream's body that stands still at the place of its lake."""

    def __init__(self, spark: SparkSession, use_case: UseCase, lake: Lake, *rest: bool) -> None:
        super().__init__(spark, use_case, lake, *rest)
        self.lake = lake
        self.online = DyingStates(use_case, lake)

    def process(self, raw: DataFrame, batch_id: int) -> None:
        stand_at(self.lake, "before the gate")
        super().process(raw, batch_id)

    def append(self, admission: Admission, seq: int) -> None:
        stand_at(self.lake, "before the append")
        super().append(admission, seq)
        stand_at(self.lake, "after the append")

    def _append_rows(self, rows: list[Row], schema: StructType, table: str, seq: int) -> None:
        stand_at(self.lake, f"before the {table}")
        super()._append_rows(rows, schema, table, seq)


class DyingWriter(BatchWriter):
    """The order of a batch, standing still within it."""

    def take(self, gated: pa.Table, seq: int) -> int:
        stand_at(self._tables.lake, "after the gate")
        return super().take(gated, seq)

    def _merge_online(self, events: pa.Table, seq: int) -> None:
        stand_at(self._tables.lake, "after the dedupe")
        super()._merge_online(events, seq)


class DyingStates(OnlineStates):
    """The online store, of which a group may get only half of its states."""

    def __init__(self, use_case: UseCase, lake: Lake) -> None:
        super().__init__(use_case, lake)
        names = [group.name for group in use_case.groups]
        self._half = {
            "amid the first group": names[0],
            "amid the last group": names[-1],
            "amid materialize": names[-1],
        }.get(lake.root.name)
        self._last = names[-1]

    def write(self, group: FeatureGroup, states: Mapping[str, State]) -> None:
        if group.name == self._last:
            stand_at(self._lake, "between two groups")
        if group.name == self._half:
            super().write(group, dict(list(states.items())[: len(states) // 2]))
            stand_at(self._lake, self._lake.root.name)
        super().write(group, states)


def stalled(frame: DataFrame) -> DataFrame:
    """The frame, whose first partition yields half of its rows and never ends."""

    def half(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield batch.slice(0, max(1, len(batch) // 2))
            threading.Event().wait()

    return frame.mapInArrow(half, frame.schema)


def lake_of(path: Path) -> Lake:
    """The lake in which the table `path` lies."""
    return Lake(path.parents[1], path.parent.name)


def append_or_die(rows: pa.Table, path: Path, writer: str, version: int) -> None:
    """As `append_once`; where the append of the events is the place, its file is there and its
    commit is not."""
    lake = lake_of(path)
    if lake.root.name == "amid the append" and path == lake.events:
        path.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path / "part-00000-never-committed.parquet")
        stand_at(lake, "amid the append")
    append_once(rows, path, writer, version)


def replace_or_die(frame: DataFrame, path: Path, *rest: str) -> None:
    """As `replace`; stalled in the lake whose backfill dies."""
    dying = lake_of(path).root.name == "amid a backfill"
    replace(stalled(frame) if dying else frame, path, *rest)


def work_of(spark: SparkSession, use_case: UseCase, lake: Lake) -> Callable[[], object]:
    """What the writer of that lake does until it stands still."""
    match lake.root.name:
        case "amid materialize":
            return lambda: materialize.materialize(spark, use_case, lake)
        case "amid a backfill":
            return lambda: tiles.backfill_tiles(spark, use_case, lake, use_case.groups)
        case place:
            return lambda: (stream.ingest_available(spark, use_case, lake), stand_at(lake, place))


def of_its_own(lake: Lake) -> None:
    """Give a copied lake's query another id: Spark runs one query of an id at a time."""
    metadata = checkpoint_of(lake) / "metadata"
    metadata.write_text(json.dumps({"id": str(uuid.uuid4())}))
    metadata.with_name(".metadata.crc").unlink(missing_ok=True)


def files_of(table: Path) -> int:
    return len(list(table.rglob("*.parquet")))


def main(name: str, folder: Path, places: list[str]) -> None:
    stream.MicroBatches, stream.BatchWriter = Dying, DyingWriter
    stream.append_once, tiles.replace = append_or_die, replace_or_die
    view_keeper.OnlineStates = DyingStates
    use_case = load_use_case(name)
    # A stalled task keeps its core.
    spark = spark_session(folder / "dying.log", master="local[4]")
    for place in places:
        lake = Lake(folder / place, use_case.name)
        of_its_own(lake)
        table = {"amid a backfill": lake.tiles}.get(place)
        before = files_of(table) if table else 0
        reached[place] = threading.Event()
        worker = threading.Thread(target=work_of(spark, use_case, lake), daemon=True)
        worker.start()
        until = time.monotonic() + PATIENCE_S
        while not reached[place].wait(0.05):
            if table and files_of(table) > before:
                break
            if not worker.is_alive() or time.monotonic() > until:
                print(f"the writer of {place!r} never came to it", file=sys.stderr, flush=True)
                os._exit(1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
