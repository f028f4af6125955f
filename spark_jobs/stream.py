"""The one writer: micro-batches from landing log and Kafka into online state and events table.

A batch is gated by Spark and taken by `writer.BatchWriter`; its seq is its Spark batch id plus one,
above the seqs of earlier epochs.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter
from pyspark.sql.types import StructType

from data_contracts.clock import SystemClock
from data_contracts.contract import Contract
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from data_contracts.views import ViewRegistry, lacking_views
from spark_jobs.admission import Admission, Row
from spark_jobs.attributes import PinnedDimensions
from spark_jobs.batch_start import BatchStart
from spark_jobs.checkpoint import (
    checkpoint_of,
    consumed,
    consumed_of_sources,
    epoch_file,
    planned_seq,
    read_epoch,
)
from spark_jobs.conservation import waiting
from spark_jobs.epochs import begin_topic, check_checkpoint
from spark_jobs.events import check_fields
from spark_jobs.feature_store import OnlineStates
from spark_jobs.gate import with_verdict
from spark_jobs.kafka import (
    MAX_BATCH_RECORDS,
    BrokerSilent,
    arrived_by,
    check_held,
    kafka_records,
)
from spark_jobs.lake_lease import lake_lease
from spark_jobs.landing import MAX_BATCH_BYTES, LandingSource
from spark_jobs.schemas import DUPLICATES, QUARANTINE, events_schema, gated_schema
from spark_jobs.seen_events import seen_events
from spark_jobs.tables import append_once, exists, load
from spark_jobs.view_keeper import ViewKeeper
from spark_jobs.visibility import note_visible
from spark_jobs.writer import BatchWriter


class MicroBatches:
    """`process` is the body of foreachBatch; one instance per running query."""

    def __init__(
        self,
        spark: SparkSession,
        use_case: UseCase,
        lake: Lake,
        begun: bool = True,
    ) -> None:
        self.done = self.events = 0
        """Micro-batches processed, and the events in them."""
        self.failure: Exception | None = None
        """What ended the query."""
        self._epoch = read_epoch(epoch_file(lake))
        self._beyond = {origin: {*lines} for origin, lines in self._epoch.beyond.items()}
        self._spark = spark
        self._use_case = use_case
        self._lake = lake
        self.online = OnlineStates(use_case, lake)
        self._start = BatchStart(use_case, lake, SystemClock())
        self._keeper = ViewKeeper(spark, use_case, lake, self.online)
        if not begun or not self._keeper.live():
            self._keeper.begin()
        self._writer: BatchWriter | None = None
        self._between = threading.Lock()

    def process(self, raw: DataFrame, batch_id: int) -> None:
        """Take one micro-batch through the whole order; running it again changes nothing."""
        try:
            with self._between:
                self._take(raw, seq=self._epoch.seq + batch_id + 1)
                self._keeper.tend()
        except Exception as error:
            self.failure = error
            raise

    def tend(self) -> bool:
        """Between micro-batches: one step of what waits to be done to the views of the store;
        whether there was one."""
        with self._between:
            return self._keeper.tend()

    def _take(self, raw: DataFrame, seq: int) -> None:
        if self._writer is None:
            seen = seen_events(self._spark, self._lake, below_seq=seq)
            dimensions = PinnedDimensions(self._use_case, self._lake, self._start)
            self._writer = BatchWriter(self._keeper.live, self.online, self, seen, dimensions)
        begun = self._start.of(seq)
        gate = with_verdict(begun.contract)
        gated = raw.transform(arrived_by(begun.at)).transform(gate).toArrow()
        gated = _with_gained(gated, self._use_case.contract)
        self.events += self._writer.take(self._not_recorded(gated), seq)
        self.done += 1

    def append(self, admission: Admission, seq: int) -> None:
        """The events in one transaction, and the records that did not become events.

        Nothing is appended when the store that holds the batch has lost earlier ones meanwhile.
        """
        self.online.reach(seq)
        contract = self._use_case.contract
        if len(admission.events):
            note_visible(self._lake, seq)
            schema = events_schema(contract)
            table = admission.events.select(schema.names)
            table = table.cast(to_arrow_schema(schema, timezone="UTC"))
            append_once(table, self._lake.events, self._named("events"), seq)
        self._append_rows(admission.duplicates, DUPLICATES, "duplicates", seq)
        self._append_rows(admission.quarantine, QUARANTINE, "quarantine", seq)

    def _append_rows(self, rows: list[Row], schema: StructType, table: str, seq: int) -> None:
        if rows:
            columns = pa.Table.from_pylist(rows, to_arrow_schema(schema, timezone="UTC"))
            append_once(columns, getattr(self._lake, table), self._named(table), seq)

    def _named(self, table: str) -> str:
        """The writer that this epoch is to that table."""
        return f"stream-{table}" + (f"-{self._epoch.number}" if self._epoch.number else "")

    def _not_recorded(self, gated: pa.Table) -> pa.Table:
        """Without the records that an earlier epoch left in a table already."""
        if not self._beyond:
            return gated
        places = zip(gated["origin"].to_pylist(), gated["line"].to_pylist(), strict=True)
        fresh = [line not in self._beyond.get(origin, ()) for origin, line in places]
        return gated.filter(pa.array(fresh, pa.bool_()))


def _with_gained(gated: pa.Table, contract: Contract) -> pa.Table:
    """The rows with the fields that the contract gained since their batch began, null."""
    for field in to_arrow_schema(gated_schema(contract), timezone="UTC"):
        if field.name not in gated.column_names:
            gated = gated.append_column(field.name, pa.nulls(len(gated), field.type))
    return gated


@dataclass(frozen=True)
class Progress:
    """How far a running stream has come since it started."""

    batches: int
    events: int
    lag: int | None
    """Records that have landed and are in no committed micro-batch yet; None while Kafka's broker
    is silent."""


@dataclass(frozen=True)
class RunningStream:
    """A continuous query over the landing log and, where the lake has one, its topic."""

    spark: SparkSession
    query: StreamingQuery
    batches: MicroBatches
    lake: Lake

    def catch_up(self) -> None:
        """Return once everything that has landed so far is processed."""
        self.query.processAllAvailable()

    def progress(self) -> Progress:
        """The figures of this moment."""
        lag: int | None = None
        with suppress(BrokerSilent):
            lag = waiting(self.spark, self.lake)
        return Progress(self.batches.done, self.batches.events, lag)

    def ended(self, within: int) -> bool:
        """Wait up to `within` seconds for its end; raises what ended it, if something did.

        Views of the store are tended to meanwhile.
        """
        if self.batches.tend():
            return False
        return bool(self.query.awaitTermination(within))


def ingest_available(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    max_batch_bytes: int = MAX_BATCH_BYTES,
    max_batch_records: int = MAX_BATCH_RECORDS,
) -> None:
    """Process what has landed and return (`availableNow`).

    What fails in a micro-batch is raised as itself, or in one line where it is Spark's; where
    Kafka's broker is silent or lacks what comes next, as by `check_held`.
    """
    with _writer(spark, use_case, lake, max_batch_bytes, max_batch_records) as (writer, batches):
        while batches.tend():
            pass
        writer.trigger(availableNow=True).start().awaitTermination()


@contextmanager
def running_stream(spark: SparkSession, use_case: UseCase, lake: Lake) -> Iterator[RunningStream]:
    """Process what lands, as it lands, for as long as the context is open.

    Failures are raised as by `ingest_available`. The lease is kept until the query has stopped.
    """
    with _writer(spark, use_case, lake) as (writer, batches):
        query = writer.trigger(processingTime="200 milliseconds").start()
        try:
            yield RunningStream(spark, query, batches, lake)
            query.processAllAvailable()
        except BaseException:
            # What ended the stream is what is told, not that a dying JVM could not stop it.
            with suppress(Exception):
                query.stop()
            raise
        query.stop()


@contextmanager
def _writer(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    max_batch_bytes: int = MAX_BATCH_BYTES,
    max_batch_records: int = MAX_BATCH_RECORDS,
) -> Iterator[tuple[DataStreamWriter, MicroBatches]]:
    with lake_lease(lake):
        batches: MicroBatches | None = None
        try:
            batches = _batches(spark, use_case, lake)
            upto = consumed_of_sources(lake)
            raw = _landed(spark, lake, max_batch_bytes)
            if lake.kafka:
                check_held(spark, lake.kafka, upto.offsets)
                start = begin_topic(spark, lake, lake.kafka, upto).offsets
                records = kafka_records(spark, lake.kafka, start, max_batch_records)
                raw = raw.unionByName(records, allowMissingColumns=True)
            writer = raw.writeStream.foreachBatch(batches.process)
            yield writer.option("checkpointLocation", str(checkpoint_of(lake))), batches
        except (PySparkException, Py4JJavaError) as error:
            failure = batches and batches.failure
            if lake.kafka and not failure:
                check_held(spark, lake.kafka, consumed_of_sources(lake).offsets)
            raise _cause(failure or error) from error


def _landed(spark: SparkSession, lake: Lake, max_batch_bytes: int) -> DataFrame:
    lake.landing.mkdir(parents=True, exist_ok=True)
    spark.dataSource.register(LandingSource)
    source = spark.readStream.format("landing").option("path", str(lake.landing))
    source = source.option("epoch", str(epoch_file(lake)))
    return source.option("max_batch_bytes", max_batch_bytes).load()


def _batches(spark: SparkSession, use_case: UseCase, lake: Lake) -> MicroBatches:
    """The body of the query; ValueError where checkpoint, tables, store and contract disagree."""
    check_checkpoint(spark, lake)
    begun = exists(spark, lake.events)
    if begun:
        check_fields(use_case, lake, load(spark, lake.events).schema)
    if begun and (lacking_groups := lacking_views(use_case.groups, ViewRegistry(lake).live())):
        names = [name for group in lacking_groups for name in group.feature_names]
        raise ValueError(
            f"{lake.online}: lacks {len(names)} features of earlier events ({', '.join(names[:3])} "
            "…: a feature group changed, or the store was deleted): run `headrace materialize`"
        )
    batches = MicroBatches(spark, use_case, lake, begun)
    batches.online.check_planned(planned_seq(lake))
    if begun:
        batches.online.require(consumed(lake).seq)
    return batches


def _cause(error: Exception) -> Exception:
    """The error itself if it is Python's; else a RuntimeError of the one line that says it."""
    if isinstance(error, Py4JJavaError):
        said = str(error.java_exception.toString())
    elif isinstance(error, PySparkException):
        said = str(error)
    else:
        return error
    # Spark nests the traceback of a worker in its message; frames are indented, the error is not.
    lines = said.rsplit("Traceback (most recent call last):", 1)[-1].splitlines()
    return RuntimeError(next((line for line in lines if line.strip() and line[0] != " "), said))
