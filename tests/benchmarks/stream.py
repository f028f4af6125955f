"""From a producer's send to a server's read by a real broker, on an aged lake that is kept up.

Latency is that of probes: events of keys never seen before, whose states are polled as a server
reads them. All runs on the same cores: producer, broker, stream, upkeep and reader.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from data_contracts.clock import DAY, SystemClock
from data_contracts.kafka import KafkaTopic
from data_contracts.lake import Lake
from data_contracts.landing import COLLECTED
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.views import digests_of
from serving.features import NO_STATE, FeatureReader
from spark_jobs.jars import resolve_jars
from spark_jobs.java import java_command
from spark_jobs.materialize import materialize
from spark_jobs.session import end_spark, spark_session
from spark_jobs.stream import ingest_available
from spark_jobs.tiles import backfill_tiles
from tests.kafka_broker import Broker
from tests.spark.lakes import impression, to_line

TOOLS = ("org.apache.kafka:kafka-tools:4.1.0",)
USERS, ITEMS = 50_000, 5_000
TICK_S, PROBE_EVERY, POLL_S = 0.02, 5, 0.05
"""A tick sends its share of the rate; every fifth begins with a probe."""
APPENDED = 500_000
"""Earlier events of a commit."""
WARM_UP_S = 60
"""Sent at the same rate before, and not measured: a JVM compiles what it runs often."""
UPKEEP_PAUSE_S = 60.0
PATIENCE_S = 60.0
"""How long probes are waited for after the last was sent."""

Tell = Callable[[str], None]


@dataclass
class Probes:
    """When each probe was sent, and its latency once all its states could be read (seconds)."""

    sent: dict[str, float] = field(default_factory=dict[str, float])
    latency: list[float] = field(default_factory=list[float])

    def watch(self, reader: FeatureReader, ended: threading.Event) -> None:
        """Poll until `ended` is set."""
        while not ended.wait(POLL_S):
            names = list(self.sent)
            if not names:
                continue
            rows = [{"user_id": name, "item_id": name} for name in names]
            states = reader.read_now(rows, SystemClock().now()).seqs > NO_STATE
            now = time.monotonic()
            for name, there in zip(names, states.tolist(), strict=True):
                if all(there):
                    self.latency.append(now - self.sent.pop(name))


@dataclass
class Followed:
    """What the stream tells while it runs: its lag, and the memory of its processes."""

    lag: list[int] = field(default_factory=list[int])
    memory_mib: list[float] = field(default_factory=list[float])
    batches: int = 0
    started: threading.Event = field(default_factory=threading.Event)

    def forget(self) -> None:
        """What was told so far is not measured."""
        self.lag.clear()
        self.memory_mib.clear()

    def read(self, output: IO[str], process: int) -> None:
        """Take its progress, line by line, until it ends."""
        for line in output:
            now = json.loads(line)
            self.batches = now["batches"]
            if now["lag"] is not None:
                self.lag.append(now["lag"])
            self.memory_mib.append(_memory_mib(process))
            self.started.set()


def measure(home: Path, options: argparse.Namespace, tell: Tell) -> list[dict[str, Any]]:
    """Each rate in turn on one lake."""
    use_case = load_use_case("clicks")
    spark = spark_session(home / "stream-spark.log", memory="4g")
    broker = Broker(spark, home / "broker")
    broker.start()
    found: list[dict[str, Any]] = []
    try:
        lake = Lake(home / "stream", use_case.name, broker.topic("events", partitions=2))
        began = time.monotonic()
        _age(spark, use_case, lake, options.world, options.commits)
        aged_s = round(time.monotonic() - began, 1)
        tell(f"{options.world:,} events and {options.commits:,} commits before: {aged_s} s")
        end_spark()
        for rate in options.rates:
            row = {"rate": rate, "seconds": options.seconds, "events_before": options.world}
            row |= {"commits_before": options.commits, "aged_s": aged_s}
            found.append(row | _run(use_case, lake, options.seconds, rate))
            tell(f"{rate} events/s: p50 {found[-1]['p50_s']} s, p99 {found[-1]['p99_s']} s")
    finally:
        broker.kill()
    return found


def _age(spark: SparkSession, use_case: UseCase, lake: Lake, events: int, commits: int) -> None:
    """`events` of the last 30 days, as if the first micro-batch had brought them: a stream of this
    rate would take days to. Their tiles and states are rebuilt from them, as after a loss; then
    come commits of one event each."""
    draw, now = np.random.default_rng(1), SystemClock().now()
    lake.landing.mkdir(parents=True)
    first = to_line(impression("first", now - 30 * DAY))
    (lake.landing / f"{COLLECTED}aged-0.jsonl").write_bytes(first + b"\n")
    ingest_available(spark, use_case, lake)
    row = DeltaTable(lake.events).to_pyarrow_dataset().head(1)
    for begin in range(0, events, APPENDED):
        n = np.arange(begin, min(begin + APPENDED, events))
        columns = {
            "event_id": _names("aged-", n),
            "request_id": _names("aged-", n),
            "line": n,
            "user_id": _names("u", draw.integers(USERS, size=len(n))),
            "item_id": _names("i", draw.integers(ITEMS, size=len(n))),
        } | dict.fromkeys(("event_time", "arrived_at"), now - 30 * DAY + n * 30 * DAY // events)
        _append(lake, row.take(np.zeros(len(n), np.int64)), columns)
    backfill_tiles(spark, use_case, lake, use_case.groups)
    materialize(spark, use_case, lake)
    for i in range(DeltaTable(lake.events).version() + 1, commits):
        _append(lake, row, {"event_id": _names("commit-", np.array([i]))})


def _append(lake: Lake, rows: pa.Table, columns: dict[str, Any]) -> None:
    """`rows` with these columns in place of their own, in one commit."""
    for name, values in columns.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, name, pa.array(values).cast(rows.schema.field(at).type))
    write_deltalake(lake.events, rows, mode="append")


def _names(prefix: str, numbers: np.ndarray) -> list[str]:
    return [f"{prefix}{number}" for number in numbers.tolist()]


def _run(use_case: UseCase, lake: Lake, seconds: int, rate: int) -> dict[str, Any]:
    """Follow the topic in a process of its own while `rate` events a second are sent to it."""
    topic = lake.kafka
    assert topic is not None
    probes, followed, ended, upkeeps = Probes(), Followed(), threading.Event(), list[float]()
    command = _headrace(lake, "ingest", "--follow", "--kafka", str(topic))
    with ExitStack() as stack:
        stream = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(stream.terminate)
        send = stack.enter_context(_producer(topic))
        assert stream.stdout is not None
        threading.Thread(target=followed.read, args=(stream.stdout, stream.pid)).start()
        while not followed.started.wait(1):
            if stream.poll() is not None:
                raise RuntimeError("the stream ended before it began: see its line above")
        _send(send, Probes(), min(WARM_UP_S, seconds), rate)
        followed.forget()
        reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
        beside = [
            threading.Thread(target=probes.watch, args=(reader, ended)),
            threading.Thread(target=_keep_up, args=(lake, ended, upkeeps)),
        ]
        for thread in beside:
            thread.start()
        try:
            sent = _send(send, probes, seconds, rate)
            deadline = time.monotonic() + PATIENCE_S
            while probes.sent and time.monotonic() < deadline:
                ended.wait(0.1)
        finally:
            ended.set()
            for thread in beside:
                thread.join()
        if stream.poll() is not None:
            raise RuntimeError("the stream ended in the middle: see its line above")
    spread = statistics.quantiles(probes.latency, n=100, method="inclusive")
    lag, memory = _ends(followed.lag), _ends(followed.memory_mib)
    return {
        "sent": sent, "p50_s": round(spread[49], 2), "p99_s": round(spread[98], 2),
        "max_s": round(max(probes.latency), 2), "probes": len(probes.latency),
        "never_read": len(probes.sent), "batches": followed.batches,
        "lag_first": lag[0], "lag_last": lag[1], "lag_max": max(followed.lag),
        "memory_first_mib": memory[0], "memory_last_mib": memory[1],
        "memory_max_mib": max(followed.memory_mib), "upkeeps": len(upkeeps),
        "upkeep_s": [round(each, 1) for each in upkeeps],
    }  # fmt: skip


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Medians of the first and of the last third."""
    third = max(1, len(values) // 3)
    return statistics.median(values[:third]), statistics.median(values[-third:])


def _keep_up(lake: Lake, ended: threading.Event, took: list[float]) -> None:
    """`headrace maintain` again and again."""
    while not ended.wait(UPKEEP_PAUSE_S if took else 1.0):
        began = time.monotonic()
        subprocess.run(_headrace(lake, "maintain"), stdout=subprocess.DEVNULL, check=True)
        took.append(time.monotonic() - began)


def _headrace(lake: Lake, *words: str) -> list[str]:
    main = "from dagster_project.cli import main; main()"
    return [sys.executable, "-c", main, *words, "--json", "--root", str(lake.root)]


def _send(producer: IO[bytes], probes: Probes, seconds: int, rate: int) -> int:
    draw, pause, begun, sent = random.Random(2), threading.Event(), time.monotonic(), 0
    run = SystemClock().now()
    for tick in range(int(seconds / TICK_S)):
        pause.wait(max(0.0, begun + tick * TICK_S - time.monotonic()))
        now, due = SystemClock().now(), int((tick + 1) * TICK_S * rate)
        lines = [to_line(_drawn(draw, f"live-{run}-{i}", now)) for i in range(sent, due)]
        probe = f"probe-{run}-{tick}" if tick % PROBE_EVERY == 0 and lines else ""
        if probe:
            lines[0] = to_line(impression(probe, now, user=probe, item=probe))
        producer.write(b"".join(line + b"\n" for line in lines))
        producer.flush()
        if probe:
            probes.sent[probe] = time.monotonic()
        sent = due
    return sent


def _drawn(draw: random.Random, name: str, at: int) -> dict[str, Any]:
    user, item = f"u{draw.randrange(USERS)}", f"i{draw.randrange(ITEMS)}"
    return impression(name, at, user=user, item=item)


@contextmanager
def _producer(topic: KafkaTopic) -> Iterator[IO[bytes]]:
    """Kafka's own console producer: a line is a record."""
    command = [java_command(), "-Xmx128m", "-cp", f"{resolve_jars(TOOLS)}/*"]
    command += ["org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", topic.servers]
    command += ["--topic", topic.topic, "--timeout", "5"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        yield process.stdin
        process.stdin.close()


def _memory_mib(process: int) -> float:
    """Of a process and all below it, what they share counted once."""
    total = 0
    own = psutil.Process(process)
    for each in [own, *own.children(recursive=True)]:
        try:
            total += each.memory_full_info().pss
        except psutil.Error:
            continue
    return round(total / 2**20, 1)
