"""A Kafka topic as a streaming source, and what its broker says of it."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from data_contracts.kafka import KafkaTopic
from data_contracts.record import MAX_BYTES

MAX_BATCH_RECORDS = 10_000
"""What one micro-batch takes from the topic at most."""

MAX_TASK_RECORDS = 1_000
"""What one of its tasks takes: the JVM's heap holds a few copies of as many of the largest."""

PATIENCE_MS = 10_000
"""How long a broker may be silent before a question to it fails. A running stream asks six times:
it survives a broker that is away for less than a minute."""


class Held(NamedTuple):
    """What the broker holds of a partition: offsets `begin` <= … < `end`."""

    begin: int
    end: int


class BrokerSilent(RuntimeError):
    """No broker answers at the topic's address."""


def kafka_records(
    spark: SparkSession,
    topic: KafkaTopic,
    offsets: Mapping[int, tuple[int, int]],
    max_records: int = MAX_BATCH_RECORDS,
) -> DataFrame:
    """The topic, from where the `offsets` of an epoch begin to read, as a streaming frame
    `schemas.RAW`, with `arrived` (µs).

    `arrived` is the record's Kafka timestamp, null where it has none: a producer may have set it,
    so that it is to be held against a clock (`arrived_by`). Of a payload above `MAX_BYTES`, refused
    unread, one byte more than that is taken, and its `size` told.
    """
    # Spark wants each partition named, and goes by it only before the first batch of a checkpoint.
    start = {partition: offsets.get(partition, (0, 0))[1] for partition in held(spark, topic)}
    options = {
        "kafka.bootstrap.servers": topic.servers,
        "kafka.request.timeout.ms": PATIENCE_MS,
        "kafka.default.api.timeout.ms": 2 * PATIENCE_MS,
        "subscribe": topic.topic,
        "startingOffsets": json.dumps({topic.topic: start}),
        "failOnDataLoss": True,
        "maxOffsetsPerTrigger": max_records,
        "maxRecordsPerPartition": MAX_TASK_RECORDS,
    }
    records = spark.readStream.format("kafka").options(**options).load()
    arrived = sf.unix_micros("timestamp")
    return records.select(
        sf.concat_ws("/", "topic", "partition").alias("origin"),
        sf.col("offset").alias("line"),
        sf.substring("value", 1, MAX_BYTES + 1).alias("payload"),
        sf.when(arrived >= 0, arrived).alias("arrived"),
        sf.octet_length("value").cast("bigint").alias("size"),
    )


def arrived_by(at: int) -> Callable[[DataFrame], DataFrame]:
    """Records of a topic with an arrival, no later than `at` (µs); those of files as they are.

    A broker that takes timestamps from its producers may take any: an event of the year 9999 with
    one to match would move the as-of of every key in its batch, and nothing would be late again.
    """
    bounded = sf.when(sf.col("origin").contains("/"), sf.least("arrived", sf.lit(at)))
    return lambda raw: raw.withColumn("arrived", bounded) if "arrived" in raw.columns else raw


def held(spark: SparkSession, topic: KafkaTopic) -> dict[int, Held]:
    """Partition -> what the broker holds of it now.

    Raises BrokerSilent where no broker answers, ValueError where it has no such topic.
    """
    with _consumer(spark, topic) as (jvm, consumer):
        partitions = jvm.java.util.ArrayList()
        for part in consumer.partitionsFor(topic.topic) or ():
            place = jvm.org.apache.kafka.common.TopicPartition(topic.topic, part.partition())
            partitions.add(place)
        begins, ends = consumer.beginningOffsets(partitions), consumer.endOffsets(partitions)
        spans = {part.partition(): Held(begins[part], ends[part]) for part in partitions}
    if not spans:
        raise ValueError(f"{topic}: the broker has no such topic: create it")
    return spans


def check_held(
    spark: SparkSession, topic: KafkaTopic, offsets: Mapping[int, tuple[int, int]]
) -> None:
    """Raise ValueError naming the partition and its offsets where what comes next is not there.

    `offsets` are those of `checkpoint.Consumed`. Raises as `held` does, too.
    """
    spans = held(spark, topic)
    for partition in sorted({*offsets, *spans} if offsets else ()):
        begin, end = spans.get(partition, Held(0, 0))
        _, upto = offsets.get(partition, (0, 0))
        if begin > upto:
            raise ValueError(
                f"{topic}: partition {partition} begins at offset {begin}, and {upto} to "
                f"{begin - 1} were not taken yet: the topic's retention removed them; restore "
                "them, or start from an empty root"
            )
        if end < upto:
            raise ValueError(
                f"{topic}: partition {partition} ends at offset {end}, but all before {upto} were "
                "taken: it is another topic of that name; restore it, or start from an empty root"
            )


@contextmanager
def _consumer(spark: SparkSession, topic: KafkaTopic) -> Iterator[tuple[Any, Any]]:
    jvm: Any = spark.sparkContext._jvm
    settings = jvm.java.util.Properties()
    for name, value in {
        "bootstrap.servers": topic.servers,
        "default.api.timeout.ms": str(PATIENCE_MS),
        "request.timeout.ms": str(PATIENCE_MS // 2),
        "allow.auto.create.topics": "false",
        "key.deserializer": "org.apache.kafka.common.serialization.ByteArrayDeserializer",
        "value.deserializer": "org.apache.kafka.common.serialization.ByteArrayDeserializer",
    }.items():
        settings.setProperty(name, value)
    consumer = None
    try:
        consumer = jvm.org.apache.kafka.clients.consumer.KafkaConsumer(settings)
        yield jvm, consumer
    except Py4JJavaError as error:
        said = str(error.java_exception.getMessage())
        raise BrokerSilent(
            f"{topic}: no broker answers ({said}): start it, then start again"
        ) from error
    finally:
        if consumer is not None:
            consumer.close()
