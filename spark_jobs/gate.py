"""The one-pass gate of the stream: a raw record becomes an event, or keeps its reasons."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema

from data_contracts.contract import Contract
from data_contracts.landing import landed_parts
from data_contracts.record import Event, Refused, check_arrival, parse_record, payload_digest
from spark_jobs.schemas import gated_schema


def with_verdict(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """raw (origin, line, payload) -> `schemas.gated_schema`; `reasons` is null for a good event."""
    schema = gated_schema(contract)
    arrow = to_arrow_schema(schema, timezone="UTC")

    def gate(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = [judge(contract, **record) for record in batch.to_pylist()]
            yield pa.RecordBatch.from_pylist(rows, schema=arrow)

    return lambda raw: raw.mapInArrow(gate, schema)


def judge(contract: Contract, origin: str, line: int, payload: bytes) -> dict[str, Any]:
    """One row of the gate's answer; never raises for what a record holds."""
    row: dict[str, Any] = {"origin": origin, "line": line, "payload": payload}
    try:
        event = parse_record(contract, payload)
        _check_arrival(contract, event, origin)
    except Refused as refused:
        return {**row, "reasons": "; ".join(refused.reasons)}
    return {**row, "digest": payload_digest(event), **event}


def _check_arrival(contract: Contract, event: Event, origin: str) -> None:
    """Judged against the record's stamp and, in a landed file, against the file's arrival too.

    A stamp beyond the file's arrival is refused: it would move the as-of of every key of its batch.
    """
    stamp, parts = event.get("arrived_at"), landed_parts(origin)
    if stamp is not None and parts and stamp - parts[0] > contract.max_future_skew:
        raise Refused([f"arrived_at: {(stamp - parts[0]) / 1e6:g} s after its file arrived"])
    if known := [at for at in (stamp, parts and parts[0]) if at is not None]:
        check_arrival(contract, event, min(known))
