"""`headrace bench gates`: how often each way to watch a release cries wolf, and what it finds."""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.features import RESULTS, tell
from tests.benchmarks.machine import machine
from tests.benchmarks.releases import (
    BROKEN,
    FAILING,
    RAMP,
    SAME,
    WORSE,
    Looks,
    Scenario,
    Shop,
    watch,
)

ALPHA = 0.05
"""Share of releases without a fault in which any sequence may ring."""
BLOCK = 50


def main() -> None:
    """Simulate, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="headrace bench gates", description=__doc__)
    parser.add_argument("--releases", type=int, default=1000, help="Of the A/A kind.")
    parser.add_argument("--faulty", type=int, default=400, help="Releases of each other kind.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of the JSON result.")
    options = parser.parse_args()
    shop, started = Shop(), time.process_time()
    kinds = {SAME: options.releases, **dict.fromkeys((WORSE, BROKEN, FAILING), options.faulty)}
    found = {kind: _simulate(shop, kind, many, options.seed) for kind, many in kinds.items()}
    lines = table(found)
    print("\n".join(lines))
    result: dict[str, Any] = {
        "part": "gates",
        "machine": machine(),
        "simulated": True,
        "cpu_seconds": round(time.process_time() - started, 1),
        "shop": vars(shop),
        "ramp": RAMP,
        "alpha": ALPHA,
        "seed": options.seed,
        "kinds": {
            kind.name: {**vars(kind), "releases": len(looks), "watchers": _figures(looks)}
            for kind, looks in found.items()
        },
    }
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "gates.json"
    kept.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    tell(f"written: {kept}")


def table(found: dict[Scenario, list[Looks]]) -> list[str]:
    """Markdown: a row per watcher, alarms per kind of release and the median look of the first."""
    figures = {kind: _figures(looks) for kind, looks in found.items()}
    heads = [f"{kind.name} ({len(looks):,} releases)" for kind, looks in found.items()]
    lines = [f"| alarm in | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for watcher in next(iter(figures.values())):
        cells = [_cell(each[watcher]) for each in figures.values()]
        lines.append(f"| {watcher} | {' | '.join(cells)} |")
    return lines


def _simulate(shop: Shop, kind: Scenario, many: int, seed: int) -> list[Looks]:
    found: list[Looks] = []
    while len(found) < many:
        block = range(len(found), min(len(found) + BLOCK, many))
        found += watch(shop, kind, block, seed, ALPHA)
        tell(f"{kind.name}: {len(found):,} of {many:,} releases")
    return found


def _figures(looks: list[Looks]) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for watcher in looks[0]:
        rung = [each[watcher] + 1 for each in looks if each[watcher] >= 0]
        share = len(rung) / len(looks)
        found[watcher] = {"share": share, "median_look": median(rung) if rung else None}
    return found


def _cell(figure: dict[str, float | None]) -> str:
    look = figure["median_look"]
    told = "" if look is None else f", look {look:g}"
    return f"{figure['share']:.1%}{told}"


if __name__ == "__main__":
    sys.exit(main())
