"""The one-pass gate of the stream: a raw record becomes an event, or keeps its reasons."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema

from data_contracts.contract import Contract
from data_contracts.landing import landed_parts
from data_contracts.record import (
    Event,
    Expired,
    Refused,
    check_arrival,
    check_retention,
    parse_record,
    payload_digest,
)
from spark_jobs.schemas import gated_schema


def with_verdict(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """raw (origin, line, payload) -> `schemas.gated_schema`; `verdict` and `reasons` are null for a
    good event."""
    schema = gated_schema(contract)
    arrow = to_arrow_schema(schema, timezone="UTC")

    def gate(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = [judge(contract, **record) for record in batch.to_pylist()]
            yield pa.RecordBatch.from_pylist(rows, schema=arrow)

    return lambda raw: raw.mapInArrow(gate, schema)


def judge(
    contract: Contract,
    origin: str,
    line: int,
    payload: bytes | None,
    arrived: int | None = None,
    size: int | None = None,
) -> dict[str, Any]:
    """One row of the gate's answer; never raises for what a record holds.

    `arrived` (µs) is when the source took the record; without it the name of a landed file says.
    Without a payload (Kafka's tombstone) the row has an empty one; `size` is that of one that was
    cut.
    """
    row: dict[str, Any] = {"origin": origin, "line": line, "arrived": arrived}
    row["payload"] = payload or b""
    parts = landed_parts(origin)
    try:
        if payload is None:
            raise Refused(["record: has no value (a tombstone), an object is needed"])
        event = parse_record(contract, payload, size)
        _check_arrival(contract, event, parts[0] if parts and arrived is None else arrived)
        check_retention(contract, event)
    except Refused as refused:
        verdict = "expired" if isinstance(refused, Expired) else "quarantine"
        return {**row, "verdict": verdict, "reasons": str(refused)}
    return {**row, "digest": payload_digest(event), **event}


def _check_arrival(contract: Contract, event: Event, arrived: int | None) -> None:
    """Judged against the record's stamp and, where its source has one, the source's too.

    A stamp beyond the source's is refused: it would move the as-of of every key of its batch.
    """
    stamp = event.get("arrived_at")
    if stamp is not None and arrived is not None and stamp - arrived > contract.max_future_skew:
        raise Refused([f"arrived_at: {(stamp - arrived) / 1e6:g} s after it arrived"])
    if known := [at for at in (stamp, arrived) if at is not None]:
        check_arrival(contract, event, min(known))
