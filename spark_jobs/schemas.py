"""Spark schemas: of the contract's events and of the tables derived from them."""

from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    DataType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from data_contracts.contract import Contract, FieldType

_SPARK: dict[FieldType, DataType] = {
    "string": StringType(),
    "integer": LongType(),
    "number": DoubleType(),
    "boolean": BooleanType(),
    "timestamp": TimestampType(),
}

RAW = "origin string, line bigint, payload binary"
"""What a source yields: one raw record and where it stands. Kafka's adds `arrived bigint`, µs,
and `size bigint`, the bytes of a payload that may be cut."""

ORIGIN = (
    StructField("origin", StringType(), False),
    StructField("line", LongType(), False),
)
"""Where a record came from: file name in the landing log and line, counted from 1; of Kafka,
`topic/partition` and offset."""


def type_name(held: DataType) -> str:
    """What the contract calls a Spark type; Spark's own name for one that it has no word for."""
    return next((name for name, kind in _SPARK.items() if kind == held), held.simpleString())


def event_fields(contract: Contract) -> list[StructField]:
    """The contract's fields as Spark sees them, all nullable: the gate has checked them."""
    return [StructField(f.name, _SPARK[f.type], True) for f in contract.fields.values()]


def gated_schema(contract: Contract) -> StructType:
    """What the gate yields: origin, when the source took the record (µs, null where its file's name
    or its own stamp says it), the raw payload, verdict and reasons, or the event if it has none."""
    return StructType(
        [
            *ORIGIN,
            StructField("arrived", LongType(), True),
            StructField("payload", BinaryType(), False),
            StructField("verdict", StringType(), True),
            StructField("reasons", StringType(), True),
            StructField("digest", StringType(), True),
            *event_fields(contract),
        ]
    )


def events_schema(contract: Contract) -> StructType:
    """The `events` table: the event, its payload digest, origin and the micro-batch's seq."""
    return StructType(
        [
            *event_fields(contract),
            StructField("digest", StringType(), False),
            *ORIGIN,
            StructField("seq", LongType(), False),
        ]
    )


QUARANTINE = StructType(
    [
        *ORIGIN,
        StructField("verdict", StringType(), False),
        StructField("reasons", StringType(), False),
        StructField("payload", BinaryType(), False),
        StructField("arrived", LongType(), True),
        StructField("seq", LongType(), False),
    ]
)
"""`verdict` is `quarantine` (breaks the contract), `conflict` (same id, other content) or `expired`
(older than the retention when it arrived); `arrived` as in `gated_schema`."""

DUPLICATES = StructType(
    [
        *ORIGIN,
        StructField("event_id", StringType(), False),
        StructField("seq", LongType(), False),
    ]
)

TILES = StructType(
    [
        StructField("group", StringType(), False),
        StructField("digest", StringType(), False),
        StructField("key", StringType(), False),
        StructField("day", StringType(), False),
        StructField("seq", LongType(), False),
        StructField("state", BinaryType(), False),
    ]
)
