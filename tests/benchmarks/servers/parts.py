"""What features, encoding and model take of a processor, without any server around them.

`python -m tests.benchmarks.servers.parts ROOT CHAMPION BODIES SECONDS` prints JSON: processor ms a
request of each part, one request after the other, and the scores of the first body.
"""

import json
import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.benchmarks.servers.bare import Bare


def main(root: str, champion: str, bodies: str, seconds: str) -> None:
    """Measure each part for a third of the time."""
    bare, within = Bare(root, champion, "onnx"), float(seconds) / 3
    lines = Path(bodies).read_text().splitlines()
    asked = [bare.rows(json.loads(line)) for line in lines]
    served = [bare.reader.read_now(rows, bare.clock.now()) for rows in asked]
    encoded = [bare.encode(rows, found) for rows, found in zip(asked, served, strict=True)]
    parts: dict[str, Callable[[int], Any]] = {
        "features_ms": lambda i: bare.reader.read_now(asked[i], bare.clock.now()),
        "encoding_ms": lambda i: bare.encode(asked[i], served[i]),
        "model_ms": lambda i: bare.score(*encoded[i]),
    }
    took = {name: round(_cpu_ms(part, len(lines), within), 4) for name, part in parts.items()}
    print(json.dumps({**took, "scores": bare.score(*encoded[0])}))


def _cpu_ms(part: Callable[[int], Any], count: int, seconds: float) -> float:
    """Mean processor time of this process, all its threads, for a call of `part`."""
    end, before, calls = time.monotonic() + seconds, time.process_time(), 0
    for i in cycle(range(count)):
        part(i)
        calls += 1
        if time.monotonic() > end:
            break
    return (time.process_time() - before) * 1000 / calls


if __name__ == "__main__":
    main(*sys.argv[1:])
