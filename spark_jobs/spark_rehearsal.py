"""A rehearsal through the real parts: Spark's gate and reads, Delta tables, Feast's store."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.states import State
from data_contracts.use_case import UseCase, load_use_case
from spark_jobs.admission import Admission
from spark_jobs.columns import arrivals
from spark_jobs.dimensions import append_rows
from spark_jobs.events import load_events
from spark_jobs.feature_store import OnlineStates
from spark_jobs.maintenance import maintain
from spark_jobs.materialize import rebuild
from spark_jobs.point_in_time import NO_LIMIT, at_query_times
from spark_jobs.rehearsal import Killed, Loads, Record
from spark_jobs.schemas import RAW
from spark_jobs.session import spark_session
from spark_jobs.stream import MicroBatches
from spark_jobs.tables import exists
from spark_jobs.tiles import PackedDays, commit_days, pack_days, stale_days

ReadFeatures = Callable[[Sequence[str], int], np.ndarray]
"""Keys of a group and a query time (µs) -> float64[keys, features], as a server gives them."""
OpenReader = Callable[[UseCase, Lake, FeatureGroup], ReadFeatures]
"""Opens a group of a lake's online store as a server does."""


class Mortal(MicroBatches):
    """A writer that dies at one place of the batch (`Rehearsal.take`), by `die`."""

    def __init__(self, spark: SparkSession, use_case: UseCase, lake: Lake, place: str) -> None:
        super().__init__(spark, use_case, lake)
        self._place = place
        self.online = _MortalStates(self, use_case, lake, place)

    def append(self, admission: Admission, seq: int) -> None:
        """As the stream's, or its death."""
        if self._place == "before":
            self.die()
        super().append(admission, seq)
        if self._place == "after":
            self.die()

    def die(self) -> None:
        """Leave the batch where it is."""
        raise Killed


class _MortalStates(OnlineStates):
    def __init__(self, writer: Mortal, use_case: UseCase, lake: Lake, place: str) -> None:
        super().__init__(use_case, lake)
        groups = [group.name for group in use_case.groups]
        self._writer = writer
        self._last = {"online": groups[0], "between": groups[-1]}.get(place)

    def write(self, group: FeatureGroup, states: Mapping[str, State]) -> None:
        """Half of the states, where the writer is to die amid this group's."""
        if group.name != self._last:
            super().write(group, states)
            return
        super().write(group, dict(list(states.items())[: len(states) // 2]))
        self._writer.die()


class SparkRehearsal:
    """A rehearsal in a lake of its own; `by_signal` makes the first writer's death a kill -9."""

    def __init__(
        self,
        spark: SparkSession,
        use_case: UseCase,
        root: Path,
        open_reader: OpenReader,
        by_signal: bool = False,
    ) -> None:
        self.use_case = use_case
        self.lake = Lake(root, use_case.name)
        self.as_of = np.iinfo(np.int64).min
        self.kill_signals = 0
        """How many writers died by kill -9."""
        self._spark = spark
        self._by_signal = by_signal
        self._open_reader = open_reader
        self._readers: dict[str, ReadFeatures] = {}
        """By group; as in a server they outlive every writer."""
        self._seq = 0
        self._writer = MicroBatches(spark, use_case, self.lake)

    def load(self, rows: Loads) -> None:
        """See `Rehearsal`."""
        for dimension in self.use_case.declared.dimensions:
            mine = [row for name, row in rows if name == dimension.name]
            append_rows(self.use_case, self.lake, dimension, mine)

    def take(self, records: Sequence[Record], killed: str = "", amid: Loads = ()) -> None:
        """See `Rehearsal`."""
        if killed and self._by_signal and not self.kill_signals:
            self._killed_by_signal(records, killed)
        elif killed:
            with suppress(Killed):
                mortal = Mortal(self._spark, self.use_case, self.lake, killed)
                mortal.process(self._frame(records), self._seq)
        if killed:
            self.load(amid)
            self._writer = MicroBatches(self._spark, self.use_case, self.lake)
        self._writer.process(self._frame(records), self._seq)
        self._seq += 1
        if exists(self._spark, self.lake.events):
            stamps = self._events().select("event_time", "arrived_at").toArrow()
            self.as_of = int(arrivals(stamps).max(initial=self.as_of))

    def again(self, records: Sequence[Record], seq: int) -> None:
        """See `Rehearsal`."""
        MicroBatches(self._spark, self.use_case, self.lake).process(self._frame(records), seq - 1)

    def read_days(self) -> list[PackedDays]:
        """See `Rehearsal`."""
        if not exists(self._spark, self.lake.events):
            return []
        groups, parts = self.use_case.groups, (self._spark, self.use_case, self.lake)
        return [pack_days(*parts, stale) for stale in stale_days(*parts, groups)]

    def commit(self, backfill: list[PackedDays]) -> None:
        """See `Rehearsal`."""
        for packed in backfill:
            commit_days(self._spark, self.lake, packed)

    def maintain(self) -> None:
        """See `Rehearsal`."""
        if exists(self._spark, self.lake.events):
            maintain(self._spark, self.use_case, self.lake, self.use_case.declared.vacuum_after)

    def served(self, group: FeatureGroup, keys: Sequence[str], q: int) -> np.ndarray:
        """See `Rehearsal`."""
        if group.name not in self._readers:
            self._readers[group.name] = self._open_reader(self.use_case, self.lake, group)
        return self._readers[group.name](keys, q)

    def rebuilt(self, group: FeatureGroup) -> dict[str, State]:
        """See `Rehearsal`."""
        return rebuild(self._spark, self.use_case, self.lake, group, self._seq, self.as_of)

    def trained(self, group: FeatureGroup, keys: Sequence[str], q: Sequence[int]) -> np.ndarray:
        """See `Rehearsal`."""
        rows = [(f"{i}", key, moment) for i, (key, moment) in enumerate(_pairs(keys, q))]
        asked = self._spark.createDataFrame(rows, "id string, key string, us long")
        asked = asked.withColumn("q", sf.timestamp_micros("us"))
        asked = asked.withColumn("seq", sf.lit(int(NO_LIMIT))).drop("us")
        found = at_query_times(group, self._events(), asked).toArrow()
        values = np.empty((len(rows), len(group.feature_names)))
        at = np.array(found["id"].to_pylist(), np.int64)
        for i, name in enumerate(group.feature_names):
            values[at, i] = found[name].to_numpy()
        return values.reshape(len(keys), len(q), -1)

    def _events(self) -> DataFrame:
        return load_events(self._spark, self.use_case, self.lake)

    def _frame(self, records: Sequence[Record]) -> DataFrame:
        return self._spark.createDataFrame([(r.origin, r.line, r.payload) for r in records], RAW)

    def _killed_by_signal(self, records: Sequence[Record], place: str) -> None:
        batch = self.lake.home / "dying_batch.jsonl"
        batch.parent.mkdir(parents=True, exist_ok=True)
        lines = [{**vars(r), "payload": r.payload.decode("latin-1")} for r in records]
        batch.write_text("".join(json.dumps(line) + "\n" for line in lines))
        folder, root = str(self.use_case.folder), str(self.lake.root)
        command = [sys.executable, "-m", __name__, folder, root, str(self._seq), place]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"the writer that was to die failed before: {done.stderr[-2000:]}")
        self.kill_signals += done.returncode != 0


def _pairs(keys: Iterable[str], q: Sequence[int]) -> list[tuple[str, int]]:
    return [(key, moment) for key in keys for moment in q]


class _Dying(Mortal):
    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, root: str, seq: str, place: str) -> None:
    """Take the batch that lies in the lake, and die in it by kill -9."""
    use_case = load_use_case(folder)
    lake = Lake(Path(root), use_case.name)
    spark = spark_session(Path(root) / "dying.log")
    lines = map(json.loads, (lake.home / "dying_batch.jsonl").read_text().splitlines())
    rows = [(x["origin"], x["line"], x["payload"].encode("latin-1")) for x in lines]
    _Dying(spark, use_case, lake, place).process(spark.createDataFrame(rows, RAW), int(seq))


if __name__ == "__main__":
    main(*sys.argv[1:])
