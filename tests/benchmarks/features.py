"""`headrace bench features`: the feature engine's speed, beside its peers, in one run."""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from dagster_project.quiet import quiet
from tests.benchmarks import backfill, online, stream, training
from tests.benchmarks.machine import machine
from tests.benchmarks.processes import Limits
from tests.benchmarks.tables import show

PARTS = ("training", "backfill", "online", "stream")
RESULTS = Path(__file__).parent / "results"
UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


def size(text: str) -> int:
    """`200k`, `3m` or `5000` as a number; ArgumentTypeError for anything else."""
    found = re.fullmatch(r"([1-9]\d*)([km]?)", text.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write it like 200k or 3m")
    return int(found[1]) * UNITS[found[2]]


def sizes(text: str) -> list[int]:
    """Sizes between commas."""
    return [size(part) for part in text.split(",")]


def parts(text: str) -> list[str]:
    """Parts between commas; ArgumentTypeError naming one that does not exist."""
    found = text.split(",")
    if unknown := [part for part in found if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown}: choose from {', '.join(PARTS)}")
    return found


def engines(text: str) -> list[str]:
    """Ours and the named peers; ArgumentTypeError naming one that does not exist."""
    found = text.split(",")
    if unknown := [name for name in found if name not in training.ENGINES]:
        raise argparse.ArgumentTypeError(f"{unknown}: choose from {', '.join(training.ENGINES)}")
    return [training.OURS, *(name for name in found if name != training.OURS)]


def main() -> None:
    """Measure, print and write what was asked for; Ctrl-C ends it and what it started."""
    options = _options()
    quiet()
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work, prefix="headrace-bench-") as place:
        try:
            for part in options.parts:
                _measure(part, Path(place), options)
        except KeyboardInterrupt:
            sys.exit(130)


class _Parser(argparse.ArgumentParser):
    """Wrong use is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"headrace: {message}\n")


def _options() -> argparse.Namespace:
    parser = _Parser(prog="headrace bench features", description=__doc__)
    parser.add_argument("--sizes", type=sizes, default=sizes("1m,3m,10m"))
    parser.add_argument("--runs", type=int, default=5, help="Warm runs after the cold one.")
    parser.add_argument("--parts", type=parts, default=list(PARTS))
    parser.add_argument("--engines", type=engines, default=list(training.ENGINES))
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of the JSON results.")
    parser.add_argument(
        "--world", type=size, default=size("5m"), help="Events before reads and stream."
    )
    parser.add_argument("--rates", type=sizes, default=sizes("1k,2k"), help="Of the stream.")
    parser.add_argument("--seconds", type=int, default=600, help="Of the stream at each rate.")
    parser.add_argument("--commits", type=size, default=size("5k"), help="Before the stream.")
    parser.add_argument("--limit-s", type=float, default=Limits.seconds)
    parser.add_argument("--limit-gib", type=float, default=Limits.gib)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    return parser.parse_args()


def _measure(part: str, home: Path, options: argparse.Namespace) -> None:
    on = machine()

    def keep(name: str, rows: list[dict[str, Any]]) -> None:
        result = {"part": part, "machine": on, "simulated": True, "rows": rows}
        kept = options.out / f"{name}.json"
        kept.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        tell(f"written: {kept}")

    found: list[dict[str, Any]] = []
    if part == "training":
        limits = Limits(options.limit_s, options.limit_gib)
        asked = (options.sizes, options.runs, limits, tell, options.engines)
        for rows in training.measure(home, *asked):
            keep(f"training-{rows[0]['size']}", rows)
            found += rows
    else:
        measure: Callable[..., list[dict[str, Any]]] = {
            "backfill": backfill.measure, "online": online.measure, "stream": stream.measure,
        }[part]  # fmt: skip
        found = measure(home, options, tell)
        keep(part, found)
    show(part, found)


def tell(line: str) -> None:
    """One line of progress on standard error."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
