"""A real Kafka broker (KRaft, one node, loopback), and its log as tests write it."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from data_contracts.kafka import KafkaTopic
from spark_jobs.jars import resolve_jars
from spark_jobs.java import java_command

COORDINATES = ("org.apache.kafka:kafka_2.13:4.1.0",)
_CLUSTER = "aGVhZHJhY2UtdGVzdC1jbA"
_CONFIG = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/log
auto.create.topics.enable=false
offsets.topic.replication.factor=1
# The tests' records are of 2019: the default of seven days would remove them at once.
log.retention.ms=-1
"""


class Broker:
    """A broker over `folder`: what it was sent survives its death."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self._jvm: Any = spark.sparkContext._jvm
        self._gateway: Any = spark.sparkContext._gateway
        self._folder = folder
        self._config = folder / "server.properties"
        port, controller = _free_ports(2)
        self.servers = f"127.0.0.1:{port}"
        folder.mkdir(parents=True)
        self._config.write_text(
            _CONFIG.format(port=port, controller=controller, folder=folder), "ascii"
        )
        self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c").wait()

    def start(self) -> None:
        """Return once it answers."""
        self._process = self._java("kafka.Kafka")
        with self._admin() as admin:
            admin.describeCluster().nodes().get()

    def kill(self) -> None:
        """End it by kill -9."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def topic(self, name: str, partitions: int = 1) -> KafkaTopic:
        """A new topic."""
        topic = self._jvm.org.apache.kafka.clients.admin.NewTopic(name, partitions, 1)
        with self._admin() as admin:
            admin.createTopics(self._list([topic])).all().get()
        return KafkaTopic(self.servers, name)

    def delete(self, name: str) -> None:
        """Delete a topic."""
        with self._admin() as admin:
            admin.deleteTopics(self._list([name])).all().get()

    def send(
        self, topic: KafkaTopic, values: Iterable[bytes | None], at: int, partition: int = 0
    ) -> None:
        """Append records of the Kafka timestamp `at` (µs) to a partition; None is a tombstone."""
        serializer = "org.apache.kafka.common.serialization.ByteArraySerializer"
        settings = self._settings(
            acks="all", **{"key.serializer": serializer, "value.serializer": serializer}
        )
        clients = self._jvm.org.apache.kafka.clients.producer
        with closing(clients.KafkaProducer(settings)) as producer:
            for value in values:
                record = clients.ProducerRecord(topic.topic, partition, at // 1000, None, value)
                producer.send(record)
            producer.flush()

    def forget(self, topic: KafkaTopic, before: int, partition: int = 0) -> None:
        """Remove the offsets below `before`, as retention does."""
        place = self._jvm.org.apache.kafka.common.TopicPartition(topic.topic, partition)
        # py4j sees the getter of this name alone, not the static factory beside it.
        kind = (
            place.getClass()
            .getClassLoader()
            .loadClass("org.apache.kafka.clients.admin.RecordsToDelete")
        )
        taken, given = self._array(self._jvm.java.lang.Class), self._array(self._jvm.Object)
        taken[0], given[0] = self._jvm.Long.TYPE, self._jvm.Long.valueOf(before)
        offset = kind.getMethod("beforeOffset", taken).invoke(None, given)
        with self._admin() as admin:
            admin.deleteRecords(self._jvm.java.util.Map.of(place, offset)).all().get()

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        admin = self._jvm.org.apache.kafka.clients.admin.Admin.create(self._settings())
        with closing(admin):
            yield admin

    def _settings(self, **more: str) -> Any:
        settings = self._jvm.java.util.Properties()
        for name, value in {"bootstrap.servers": self.servers, **more}.items():
            settings.setProperty(name, value)
        return settings

    def _array(self, kind: Any) -> Any:
        return self._gateway.new_array(kind, 1)

    def _list(self, values: list[Any]) -> Any:
        found = self._jvm.java.util.ArrayList()
        for value in values:
            found.add(value)
        return found

    def _java(self, *command: str) -> subprocess.Popen[bytes]:
        with open(self._folder / "broker.log", "ab") as log:
            return subprocess.Popen(
                [java_command(), "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
                 "-cp", f"{resolve_jars(COORDINATES)}/*", *command, str(self._config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ},
            )  # fmt: skip


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
