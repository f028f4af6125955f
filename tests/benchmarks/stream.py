"""`python -m tests.benchmarks.stream`: from a producer's send to a server's read, by a real broker.

Prints and keeps, as JSON: latency of probes (events of keys never seen before, whose states are
polled as a server reads them), lag, memory of the stream's processes, machine and sizes.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from data_contracts.clock import DAY, SystemClock
from data_contracts.kafka import KafkaTopic
from data_contracts.lake import Lake
from data_contracts.landing import GROWING
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.views import digests_of
from serving.features import NO_STATE, FeatureReader
from spark_jobs.jars import resolve_jars
from spark_jobs.java import java_command
from spark_jobs.session import end_spark, spark_session
from spark_jobs.stream import ingest_available
from tests.kafka_broker import COORDINATES, Broker
from tests.spark.lakes import impression, to_line

RESULT = Path(__file__).parent / "results" / "stream.json"
TOOLS = ("org.apache.kafka:kafka-tools:4.1.0",)
USERS, ITEMS = 50_000, 5_000
TICK_S, PROBE_EVERY, POLL_S = 0.02, 5, 0.05
"""A tick sends its share of the rate; every fifth begins with a probe."""


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
    """What the stream tells while it runs: its lag each second, and its processes' memory."""

    lag: list[int] = field(default_factory=list[int])
    memory_mb: list[float] = field(default_factory=list[float])
    batches: int = 0
    started: threading.Event = field(default_factory=threading.Event)

    def read(self, output: IO[str], session: int) -> None:
        """Take its progress, line by line, until it ends."""
        for line in output:
            now = json.loads(line)
            self.batches = now["batches"]
            self.lag.append(now["lag"])
            self.memory_mb.append(_resident_mb(session))
            self.started.set()


def main() -> None:
    """Run it with the sizes of the command line."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--seconds", type=int, default=600)
    ask.add_argument("--rate", type=int, default=1_000, help="events a second")
    ask.add_argument("--events", type=int, default=5_000_000, help="taken before")
    ask.add_argument("--commits", type=int, default=5_000, help="of the events table, before")
    ask.add_argument("--out", type=Path, default=RESULT)
    sizes = ask.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        result = _measure(Path(folder), sizes.seconds, sizes.rate, sizes.events, sizes.commits)
    text = json.dumps(result, indent=1)
    sizes.out.parent.mkdir(parents=True, exist_ok=True)
    sizes.out.write_text(text + "\n", "utf-8")
    print(text)


def _measure(folder: Path, seconds: int, rate: int, events: int, commits: int) -> dict[str, Any]:
    use_case = load_use_case("clicks")
    spark = spark_session(folder / "spark.log")
    broker = Broker(spark, folder / "broker")
    broker.start()
    try:
        lake = Lake(folder / "root", use_case.name, broker.topic("events", partitions=2))
        begun = time.monotonic()
        _age(spark, use_case, lake, events, commits)
        aged = time.monotonic() - begun
        end_spark()
        assert lake.kafka is not None
        probes, followed, sent = _run(use_case, lake, lake.kafka, seconds, rate)
    finally:
        broker.kill()
    spread = statistics.quantiles(probes.latency, n=100, method="inclusive")
    third = max(1, len(followed.lag) // 3)
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "sizes": {"seconds": seconds, "rate": rate, "sent": sent, "events_before": events,
                  "commits_before": commits, "aged_s": round(aged, 1)},
        "latency_s": {"p50": round(spread[49], 3), "p99": round(spread[98], 3),
                      "max": round(max(probes.latency), 3), "probes": len(probes.latency),
                      "never_read": len(probes.sent)},
        "batches": followed.batches,
        "lag_records": {"first_third_median": statistics.median(followed.lag[:third]),
                        "last_third_median": statistics.median(followed.lag[-third:]),
                        "max": max(followed.lag), "end": followed.lag[-1]},
        "memory_mb": {"first_third_median": statistics.median(followed.memory_mb[:third]),
                      "last_third_median": statistics.median(followed.memory_mb[-third:]),
                      "max": max(followed.memory_mb)},
    }  # fmt: skip


def _age(spark: SparkSession, use_case: UseCase, lake: Lake, events: int, commits: int) -> None:
    """`events` through the stream, spread over 30 days; then small commits of one event each."""
    draw, now = random.Random(1), SystemClock().now()
    lake.landing.mkdir(parents=True)
    with open(lake.landing / f"{GROWING}aged-0.jsonl", "wb") as log:
        for i in range(events):
            at = now - 30 * DAY + i * 30 * DAY // events
            log.write(to_line(_drawn(draw, f"aged-{i}", at)) + b"\n")
    ingest_available(spark, use_case, lake)
    table = DeltaTable(lake.events)
    row = table.to_pyarrow_dataset().head(1)
    for i in range(table.version() + 1, commits):
        column = row.schema.get_field_index("event_id")
        write_deltalake(
            lake.events,
            row.set_column(column, "event_id", pa.array([f"commit-{i}"])),
            mode="append",
        )


def _run(
    use_case: UseCase, lake: Lake, topic: KafkaTopic, seconds: int, rate: int
) -> tuple[Probes, Followed, int]:
    """Follow the topic in a process of its own while `rate` events a second are sent to it."""
    command = [sys.executable, "-c", "from dagster_project.cli import main; main()"]
    command += ["ingest", "--follow", "--json", "--root", str(lake.root), "--kafka", str(topic)]
    probes, followed, ended = Probes(), Followed(), threading.Event()
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as stream,
        _producer(topic) as send,
    ):
        assert stream.stdout is not None
        threading.Thread(target=followed.read, args=(stream.stdout, stream.pid)).start()
        while not followed.started.wait(1):
            if stream.poll() is not None:
                raise RuntimeError("the stream ended before it began: see its line above")
        reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
        watcher = threading.Thread(target=probes.watch, args=(reader, ended))
        watcher.start()
        sent = _send(send, probes, seconds, rate)
        deadline = time.monotonic() + 60
        while probes.sent and time.monotonic() < deadline:
            ended.wait(0.1)
        ended.set()
        watcher.join()
        stream.terminate()
    return probes, followed, sent


def _send(producer: IO[bytes], probes: Probes, seconds: int, rate: int) -> int:
    draw, pause, begun, sent = random.Random(2), threading.Event(), time.monotonic(), 0
    for tick in range(int(seconds / TICK_S)):
        pause.wait(max(0.0, begun + tick * TICK_S - time.monotonic()))
        now, due = SystemClock().now(), int((tick + 1) * TICK_S * rate)
        probe = f"probe-{tick}" if tick % PROBE_EVERY == 0 else ""
        lines = [to_line(_drawn(draw, f"live-{i}", now)) for i in range(sent, due)]
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


def _resident_mb(session: int) -> float:
    """Memory of all processes of a session."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pages += int(words[21]) if int(words[3]) == session else 0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    names = ("pyspark", "delta-spark", "feast")
    return {
        "cores": os.cpu_count(), "memory_gb": round(memory / 2**30, 1), "load": os.getloadavg()[0],
        "system": platform.platform(), "python": platform.python_version(),
        **{name: version(name) for name in names}, "broker": COORDINATES[0],
    }  # fmt: skip


if __name__ == "__main__":
    main()
