"""What features, encoding and model take of a processor, without any server around them.

`python -m tests.benchmarks.servers.parts ROOT CHAMPION BODIES SECONDS` prints JSON: processor ms a
request of each part, one request after the other, and the scores of the first body. Features are
read twice: with a commit to the store before each read, beside the measured time, and while the
store stands still, where the reader keeps what it has read.
"""

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Any

from data_contracts.lake import Lake
from tests.benchmarks.servers.bare import Bare


def main(root: str, champion: str, bodies: str, seconds: str) -> None:
    """Measure each part for a quarter of the time."""
    bare, within = Bare(root, champion, "onnx"), float(seconds) / 4
    store = Lake(Path(root), bare.use_case.name).online_file
    lines = Path(bodies).read_text().splitlines()
    asked = [bare.rows(json.loads(line)) for line in lines]
    served = [bare.reader.read_now(rows, bare.clock.now()) for rows in asked]
    encoded = [bare.encode(rows, found) for rows, found in zip(asked, served, strict=True)]

    def read(i: int) -> Any:
        return bare.reader.read_now(asked[i], bare.clock.now())

    with closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("PRAGMA synchronous = OFF")
        (number,) = other.execute("PRAGMA user_version").fetchone()

        def commit(i: int) -> None:
            other.execute(f"PRAGMA user_version = {number + 1 + i % 2}")

        took = {"features_ms": _cpu_ms(read, len(lines), within, commit)}
        other.execute(f"PRAGMA user_version = {number}")
    for i in range(len(lines)):
        read(i)
    parts: dict[str, Callable[[int], Any]] = {
        "kept_features_ms": read,
        "encoding_ms": lambda i: bare.encode(asked[i], served[i]),
        "model_ms": lambda i: bare.score(*encoded[i]),
    }
    took |= {name: _cpu_ms(part, len(lines), within) for name, part in parts.items()}
    rounded = {name: round(spent, 4) for name, spent in took.items()}
    print(json.dumps({**rounded, "scores": bare.score(*encoded[0])}))


def _cpu_ms(
    part: Callable[[int], Any],
    count: int,
    seconds: float,
    between: Callable[[int], None] = lambda _: None,
) -> float:
    """Mean processor time of this process, all its threads, for a call of `part`; `between` comes
    before each and does not count."""
    end, spent, calls = time.monotonic() + seconds, 0.0, 0
    for i in cycle(range(count)):
        between(calls)
        before = time.process_time()
        part(i)
        spent += time.process_time() - before
        calls += 1
        if time.monotonic() > end:
            break
    return spent * 1000 / calls


if __name__ == "__main__":
    main(*sys.argv[1:])
