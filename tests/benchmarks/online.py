"""One read for a request of 51 keys, from the store to finished features, at two state sizes."""

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.states import State, encode, split
from data_contracts.tiles import fold, raw_rows
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of
from serving.features import FeatureReader
from spark_jobs.columns import codes, micros, to_events
from spark_jobs.feature_store import OnlineStates
from tests.benchmarks.definitions import benchmark_use_case
from tests.benchmarks.log import EVENTS, log_folder, write_log

ITEMS = 50
"""Candidates of a request; with its user they make 51 keys."""
READS, WARM_UP = 2000, 100
KEYS_AT_A_TIME = 2000
PERCENTILES = {"p50": 50, "p99": 99}


def measure(
    home: Path, options: argparse.Namespace, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Reads at the median and the 99th percentile of the states' sizes, from SQLite."""
    size, use_case = options.world, benchmark_use_case()
    log, lake = log_folder(home, size, hot=False), Lake(home / "online", use_case.name)
    events = write_log(log, size, hot=False)["events"]
    tell(f"states of {events:,} events")
    sizes, q = _fill(use_case, lake, log / EVENTS)
    reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
    return [
        {"store": "SQLite", "events": events, **_reads(reader, use_case, sizes, rank, q, tell)}
        for rank in PERCENTILES
    ]


def _fill(use_case: UseCase, lake: Lake, path: Path) -> tuple[dict[str, dict[str, int]], int]:
    """Write every key's state; per entity the bytes of each, and the moment after the log."""
    online, sizes, end = OnlineStates(use_case, lake), dict[str, dict[str, int]](), 0
    for group in use_case.groups:
        sizes[group.entity] = {}
        for states in _states(group, path):
            online.write(group, states)
            end = next(iter(states.values())).as_of
            packed = {key: len(encode(group, state)) for key, state in states.items()}
            sizes[group.entity] |= packed
    return sizes, end


def _states(group: FeatureGroup, path: Path) -> Iterator[dict[str, State]]:
    """The state of every key as of the log's end, so many keys at a time."""
    table = pq.read_table(path)
    key, names = codes(table[group.entity])
    as_of = int(micros(table["event_time"]).max()) + 1
    order = np.argsort(key, kind="stable")
    edges = np.searchsorted(key[order], np.arange(0, len(names) + KEYS_AT_A_TIME, KEYS_AT_A_TIME))
    for first, (begin, end) in enumerate(pairwise(edges.tolist())):
        mine = order[begin:end]
        here = names[first * KEYS_AT_A_TIME : (first + 1) * KEYS_AT_A_TIME]
        own = key[mine] - first * KEYS_AT_A_TIME
        raw = raw_rows(group, own, to_events([group], table.take(mine)))
        rows = split(fold(group, raw, np.full(len(here), as_of)), len(here))
        yield {name: State(1, as_of, found) for name, found in zip(here, rows, strict=True)}


def _reads(
    reader: FeatureReader,
    use_case: UseCase,
    sizes: dict[str, dict[str, int]],
    rank: str,
    q: int,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    chosen = {
        entity: _nearest(held, PERCENTILES[rank], ITEMS if entity == "item_id" else 1)
        for entity, held in sizes.items()
    }
    [user], items = chosen["user_id"], chosen["item_id"]
    rows = [{"user_id": user, "item_id": item} for item in items]
    taken = np.empty(READS)
    for i in range(-WARM_UP, READS):
        began = time.perf_counter()
        served = reader.read_now(rows, q + i)
        if i >= 0:
            taken[i] = time.perf_counter() - began
        if served.defaults_used:
            raise ValueError(f"{rank}: a state is missing in the store: {served.seqs.tolist()}")
    p50, p99 = np.percentile(taken * 1000, (50, 99)).round(2).tolist()
    tell(f"online read of {1 + len(items)} keys, {rank} states: p50 {p50} ms, p99 {p99} ms")
    held = [sizes["user_id"][user], *(sizes["item_id"][item] for item in items)]
    return {
        "state": rank, "state_bytes": int(np.median(held)), "keys": len(held),
        "features": len(use_case.feature_names), "reads": READS, "p50_ms": p50, "p99_ms": p99,
    }  # fmt: skip


def _nearest(held: dict[str, int], percentile: int, count: int) -> list[str]:
    """The keys whose states' sizes lie around that percentile."""
    names = sorted(held, key=lambda name: (held[name], name))
    middle = round((len(names) - 1) * percentile / 100)
    first = max(0, min(middle - count // 2, len(names) - count))
    return names[first : first + count]
