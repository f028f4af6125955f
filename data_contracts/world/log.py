"""The log of a world on disk, and beside it the truth that no training reads.

    {day}.jsonl            what arrived that day, in order of arrival, one event a line
    malformed/{day}.jsonl  what arrived that day and breaks the contract
    dimensions/item.jsonl  the items' categories, for clicks and purchases carry none
    truth/                 `data_contracts.world.truth`
    world.json             parameters and counts

The files of the first row can be imported; those of the first two are all that ingest would have
received. Everything is simulated.
"""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.clock import DAY, day_of, format_time
from data_contracts.dimension import DIMENSIONS
from data_contracts.world.generator import MALFORMED, records
from data_contracts.world.lines import rendered
from data_contracts.world.parameters import Parameters
from data_contracts.world.population import Population
from data_contracts.world.truth import truth_rows

MANIFEST = "world.json"
_AT_A_TIME = 4000


class _Folder:
    """Appends lines to files and knows how many each holds."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lines: Counter[str] = Counter()

    def append(self, name: str, lines: list[str]) -> int:
        """Append to the file `name`; returns the number (from 1) of the first of the lines."""
        if lines:
            path = self._root / name
            path.parent.mkdir(exist_ok=True)
            with open(path, "a", encoding="utf-8", newline="\n") as file:
                file.write("\n".join(lines) + "\n")
        first = self._lines[name] + 1
        self._lines[name] += len(lines)
        return first

    def counts(self) -> dict[str, int]:
        """Lines by file, in order of name."""
        return {name: n for name, n in sorted(self._lines.items()) if n}


def write_world(
    parameters: Parameters, out: Path, on_progress: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Write the world into the new folder `out`; returns what `world.json` holds.

    Nothing is left behind when it fails. Raises ValueError when `out` holds something already.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out}: exists already: name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as place:
        made = Path(place) / "world"
        made.mkdir()
        summary = _write(parameters, _Folder(made), on_progress)
        _write_items(parameters, made / DIMENSIONS)
        (made / MANIFEST).write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
        os.replace(made, out)
    return summary


def _write(
    parameters: Parameters, folder: _Folder, on_progress: Callable[[int], None] | None
) -> dict[str, Any]:
    people = Population(parameters)
    done = last = 0
    for block in records(parameters):
        midnights = np.flatnonzero(np.diff(block["arrived"] // DAY)) + 1
        cuts = np.union1d(midnights, np.arange(0, len(block), _AT_A_TIME))
        for start, end in pairwise([*cuts.tolist(), len(block)]):
            last = int(block["arrived"][end - 1])
            _append(people, folder, f"{day_of(last)}.jsonl", block[start:end])
        done += len(block)
        if on_progress:
            on_progress(done)
    counts = folder.counts()
    log = {name: n for name, n in counts.items() if not name.startswith("truth/")}
    truth = {name.removeprefix("truth/"): n for name, n in counts.items() if name not in log}
    return {
        "simulated": True,
        "records": sum(log.values()),
        "malformed": sum(n for name, n in log.items() if name.startswith("malformed/")),
        "users": parameters.users,
        "items": parameters.items,
        "from": format_time(parameters.origin),
        "to": format_time(last),
        "drift_at": format_time(parameters.drift_at),
        "log": log,
        "truth": truth,
        "parameters": asdict(parameters),
    }


def _write_items(parameters: Parameters, folder: Path) -> None:
    folder.mkdir()
    since = format_time(parameters.origin)
    with open(folder / "item.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for item, category in enumerate(Population(parameters).category.tolist()):
            row = {"item_id": f"i{item}", "valid_from": since, "category": f"c{category}"}
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


def _append(people: Population, folder: _Folder, name: str, part: np.ndarray) -> None:
    lines = list(rendered(people, part))
    broken = part["copy"] == MALFORMED
    for rows, file in ((~broken, name), (broken, f"malformed/{name}")):
        first = folder.append(file, [lines[i] for i in np.flatnonzero(rows).tolist()])
        for table, truths in truth_rows(people, part[rows], file, first).items():
            folder.append(f"truth/{table}.jsonl", truths)
