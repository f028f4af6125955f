"""One read for a request of 51 keys, from the store to finished features, at two state sizes.

The states are those of the benchmark's groups (`definitions.py`) over the generated world's log.
"""

import argparse
import itertools
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.states import State, advance, encode
from data_contracts.tiles import raw_rows
from data_contracts.use_case import UseCase
from data_contracts.views import View, ViewRegistry, digests_of
from serving.features import FeatureReader
from spark_jobs.columns import codes, micros, to_events
from spark_jobs.feature_store import OnlineStates
from tests.benchmarks.definitions import benchmark_use_case
from tests.benchmarks.log import EVENTS, log_folder, write_log
from tests.redis_server import RedisServer

ITEMS = 50
"""Candidates of a request; with its user they make 51 keys."""
READS, WARM_UP = 400, 50
"""Of each round."""
KEYS_AT_A_TIME = 2000
PERCENTILES = {"p50": 50, "p99": 99}
REDIS = "redis-server"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Store:
    """A store to read from; `touch` is a commit that makes the reader read anew, if one is due."""

    name: str
    lake: Lake
    touch: Callable[[], None]


def measure(home: Path, options: argparse.Namespace, tell: Tell) -> list[dict[str, Any]]:
    """Reads at the median and the 99th percentile of the states' sizes, from SQLite and Redis."""
    size, use_case = options.world, benchmark_use_case()
    log = log_folder(home, size, hot=False)
    events = write_log(log, size, hot=False)["events"]
    found: list[dict[str, Any]] = []
    for open_store in (_sqlite, _redis):
        with open_store(home, use_case) as store:
            if store is None:
                found.append({"store": "Redis", "gave_up": f"no {REDIS} on the PATH"})
                continue
            tell(f"{store.name}: states of {events:,} events")
            sizes, q = _fill(use_case, store.lake, log / EVENTS)
            reader = FeatureReader(use_case, store.lake, digests_of(use_case.groups))
            for rank in PERCENTILES:
                row = _reads(reader, store, sizes, rank, q, options.runs)
                found.append({"events": events, "features": len(use_case.feature_names), **row})
                tell(f"online read of {row['keys']} keys, {store.name}, {rank} states: "
                     f"p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms")  # fmt: skip
    return found


@contextmanager
def _sqlite(home: Path, use_case: UseCase) -> Iterator[Store | None]:
    lake = Lake(home / "sqlite", use_case.name)
    _open(use_case, lake)
    commits = itertools.count(1)

    def touch() -> None:
        """What a stream beside the server does to the file, without its work."""
        with closing(sqlite3.connect(lake.online_file, isolation_level=None)) as writer:
            writer.execute(f"PRAGMA user_version = {next(commits)}")

    yield Store("SQLite", lake, touch)


@contextmanager
def _redis(home: Path, use_case: UseCase) -> Iterator[Store | None]:
    if shutil.which(REDIS) is None:
        yield None
        return
    server = RedisServer(home / "redis-server")
    try:
        lake = Lake(home / "redis", use_case.name, redis=server.address)
        _open(use_case, lake)
        yield Store("Redis", lake, lambda: None)
    finally:
        server.kill()


def _open(use_case: UseCase, lake: Lake) -> None:
    for group in use_case.groups:
        ViewRegistry(lake).put(View(group, "ready"))


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
        yield advance(group, {}, here, raw, 1, as_of)


def _reads(
    reader: FeatureReader,
    store: Store,
    sizes: dict[str, dict[str, int]],
    rank: str,
    q: int,
    runs: int,
) -> dict[str, Any]:
    """Medians over the rounds of p50 and p99, and of the p50 of reads of an unchanged store."""
    chosen = {
        entity: _nearest(held, PERCENTILES[rank], ITEMS if entity == "item_id" else 1)
        for entity, held in sizes.items()
    }
    [user], items = chosen["user_id"], chosen["item_id"]
    rows = [{"user_id": user, "item_id": item} for item in items]

    def timed(before: Callable[[], None]) -> np.ndarray:
        taken = np.empty(READS)
        for i in range(-WARM_UP, READS):
            before()
            began = time.perf_counter()
            served = reader.read_now(rows, q + i)
            if i >= 0:
                taken[i] = time.perf_counter() - began
            if served.defaults_used:
                raise ValueError(f"{rank}: a state is missing in the store: {served.seqs.tolist()}")
        return np.percentile(taken * 1000, (50, 99))

    rounds = np.array([[*timed(store.touch), timed(lambda: None)[0]] for _ in range(runs)])
    p50, p99, kept = (round(median(column), 2) for column in rounds.T.tolist())
    held = [sizes["user_id"][user], *(sizes["item_id"][item] for item in items)]
    return {
        "store": store.name, "state": rank, "state_bytes": int(np.median(held)),
        "keys": len(held), "reads": READS, "rounds": runs, "p50_ms": p50, "p99_ms": p99,
        "p50_spread_ms": [round(float(f(rounds[:, 0])), 2) for f in (np.min, np.max)],
        "unchanged_p50_ms": kept,
    }  # fmt: skip


def _nearest(held: dict[str, int], percentile: int, count: int) -> list[str]:
    """The keys whose states' sizes lie around that percentile."""
    names = sorted(held, key=lambda name: (held[name], name))
    middle = round((len(names) - 1) * percentile / 100)
    first = max(0, min(middle - count // 2, len(names) - count))
    return names[first : first + count]
