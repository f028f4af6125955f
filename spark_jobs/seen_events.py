"""Which events there are and what they said: 32 bytes an event, sorted to be searched."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.lake import Lake
from spark_jobs.tables import exists, load

_WIDE = 32
_HEX = 2 * 16
"""Hex digits of 16 bytes: of an id's SHA-256 its first half, of a payload's digest all."""

Place = tuple[str, int]
"""Origin and line."""

Places = Callable[[Sequence[str]], Mapping[str, Place]]
"""Ids of events -> where each came from."""


class SeenEvents:
    """Ids and payloads of every event below the next seq, as digests of 128 bits.

    Two ids with one digest would be taken for one: among 10^12 events the chance is below 10^-14.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        """Asked only to tell of a conflict with which event it is."""
        self._runs: list[np.ndarray] = []
        """Each uint64[4, n]: an id's digest and its payload's, two rows each, sorted by the first;
        a run is over twice as long as the next, so that there are few."""

    def __len__(self) -> int:
        return sum(run.shape[1] for run in self._runs)

    def add(self, events: pa.Table) -> None:
        """Remember the events of a committed batch (`event_id`, `digest`)."""
        self.add_digests(_digests(events))

    def add_digests(self, events: np.ndarray) -> None:
        """Remember events by their digests, uint64[4, n] as `known` answers of."""
        self._runs.append(events[:, np.argsort(events[0], kind="stable")])
        while len(self._runs) > 1 and self._runs[-2].shape[1] <= 2 * self._runs[-1].shape[1]:
            both = np.concatenate([self._runs.pop(-2), self._runs.pop()], axis=1)
            self._runs.append(both[:, np.argsort(both[0], kind="stable")])

    def known(self, events: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """bool[n] whether each event's id was seen, and bool[n] whether with the same payload."""
        asked = _digests(events)
        seen = np.zeros(asked.shape[1], bool)
        same = np.zeros(asked.shape[1], bool)
        for run in self._runs:
            at = np.searchsorted(run[0], asked[0])
            left = np.flatnonzero(at < run.shape[1])
            while len(left := left[run[0, at[left]] == asked[0, left]]):
                found = left[run[1, at[left]] == asked[1, left]]
                seen[found] = True
                same[found] = (run[2:, at[found]] == asked[2:, found]).all(axis=0)
                # Another id of the same first half may be followed by the one that is looked for.
                left = left[run[1, at[left]] != asked[1, left]]
                at[left] += 1
                left = left[at[left] < run.shape[1]]
        return seen, same


def seen_events(spark: SparkSession, lake: Lake, below_seq: int) -> SeenEvents:
    """Those of the events table of a lower seq."""
    seen = SeenEvents(_places_in(spark, lake))
    if exists(spark, lake.events):
        digest = sf.substring(sf.sha2("event_id", 256), 1, _HEX)
        known = load(spark, lake.events).where(f"seq < {below_seq}")
        packed = known.select(sf.unhex(sf.concat(digest, "digest")).alias("packed"))
        for batch in packed.toArrow().to_batches():
            seen.add_digests(_unpacked(batch["packed"].to_pylist()))
    return seen


def _places_in(spark: SparkSession, lake: Lake) -> Places:
    def found(ids: Sequence[str]) -> Mapping[str, Place]:
        wanted = spark.createDataFrame(pa.table({"event_id": [*dict.fromkeys(ids)]}))
        events = load(spark, lake.events).select("event_id", "origin", "line")
        rows = events.join(sf.broadcast(wanted), "event_id").collect()
        return {row["event_id"]: (row["origin"], row["line"]) for row in rows}

    return found


def _digests(events: pa.Table) -> np.ndarray:
    ids = events["event_id"].cast(pa.binary()).to_pylist()
    said = events["digest"].to_pylist()
    pairs = zip(ids, said, strict=True)
    return _unpacked(hashlib.sha256(i).digest()[:16] + bytes.fromhex(d) for i, d in pairs)


def _unpacked(packed: Iterable[bytes]) -> np.ndarray:
    """uint64[4, n] of 32 bytes an event."""
    words = np.frombuffer(b"".join(packed), ">u8").reshape(-1, _WIDE // 8)
    return np.ascontiguousarray(words.T, np.uint64)
