"""The training set, parquet to parquet: Headrace beside its peers, interleaved run by run."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.agreement import disagreements
from tests.benchmarks.log import log_folder, write_log
from tests.benchmarks.processes import Cost, GivenUp, Limits, Worker

OURS = "headrace"
ENGINES = (OURS, "duckdb_frames", "duckdb_expert", "polars_join", "polars_expert", "spark_range")
FEAST = (
    "cannot express it: get_historical_features joins the newest stored row before a time, "
    "and has no aggregation over a window that moves with that time"
)
PATIENCE_S = 600.0
"""After so many seconds of warm runs an engine's later runs are left out."""


@dataclass
class Lane:
    """An engine on one log."""

    engine: str
    hot: bool
    worker: Worker | None = None
    runs: list[Cost] = field(default_factory=list[Cost])
    gave_up: str | None = None

    @property
    def name(self) -> str:
        return f"{self.engine}-{'hot' if self.hot else 'even'}"

    def row(self, rows: dict[str, int], events: int) -> dict[str, Any]:
        """What is reported of it."""
        found: dict[str, Any] = {
            "engine": self.engine, "log": "hot" if self.hot else "even", "size": events, **rows,
            "gave_up": self.gave_up,
        }  # fmt: skip
        if self.worker is not None and self.worker.started is not None:
            found["start_s"] = round(self.worker.started.seconds, 3)
        if self.runs:
            found["cold_s"] = round(self.runs[0].seconds, 3)
            found["peak_mib"] = round(max(run.peak for run in self.runs) / 2**20)
        if warm := self.runs[1:]:
            seconds = sorted(run.seconds for run in warm)
            found["warm_s"] = [round(run.seconds, 3) for run in warm]
            found["median_s"] = round(median(seconds), 3)
            found["spread_s"] = [round(seconds[0], 3), round(seconds[-1], 3)]
            found["cpu_s"] = round(median(run.cpu for run in warm), 2)
        return found


def measure(
    home: Path,
    sizes: Sequence[int],
    runs: int,
    limits: Limits,
    tell: Callable[[str], None],
    engines: Sequence[str] = ENGINES,
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each size as it is done; the smallest one's features are compared.

    Raises ValueError when an engine's features differ from ours.
    """
    lost: dict[str, str] = {}
    for events in sorted(sizes):
        rows = {hot: write_log(log_folder(home, events, hot), events, hot) for hot in (False, True)}
        lanes = [Lane(engine, hot=False) for engine in engines] + [Lane(OURS, hot=True)]
        for lane in lanes:
            lane.gave_up = lost.get(lane.name)
        with _ended(lanes):
            for turn in range(1 + runs):
                for lane in lanes:
                    _turn(home, lane, events, turn, limits, tell)
                if turn == 0 and events == min(sizes):
                    _compare(home, lanes, tell)
            found = [lane.row(rows[lane.hot], events) for lane in lanes]
        for lane in lanes:
            if lane.gave_up is not None:
                lost.setdefault(lane.name, f"{lane.gave_up} (at {events:,} events)")
        none = {"engine": "feast", "log": "even", "size": events, "gave_up": FEAST}
        yield [*found, none]


@contextmanager
def _ended(lanes: Sequence[Lane]) -> Iterator[None]:
    try:
        yield
    finally:
        for lane in lanes:
            if lane.worker is not None:
                lane.worker.end()


def _turn(
    home: Path, lane: Lane, events: int, turn: int, limits: Limits, tell: Callable[[str], None]
) -> None:
    if lane.gave_up is not None or sum(run.seconds for run in lane.runs[1:]) > PATIENCE_S:
        return
    out = _out(home, lane)
    shutil.rmtree(out, ignore_errors=True)
    try:
        if lane.worker is None:
            lane.worker = Worker(lane.engine, out.parent, limits)
            lane.worker.wait_until_up()
        cost = lane.worker.run(log_folder(home, events, lane.hot), out)
    except GivenUp as reason:
        lane.gave_up = str(reason)
        if lane.worker is not None:
            lane.worker.end()
        tell(f"{events:,} {lane.name}: given up: {reason}")
        return
    lane.runs.append(cost)
    kind = "cold" if turn == 0 else f"run {turn}"
    tell(f"{events:,} {lane.name}: {kind} {cost.seconds:.2f} s, {cost.cpu:.1f} CPU s")


def _out(home: Path, lane: Lane) -> Path:
    return home / lane.name / "out"


def _compare(home: Path, lanes: Sequence[Lane], tell: Callable[[str], None]) -> None:
    ours = next(lane for lane in lanes if lane.engine == OURS)
    if ours.gave_up is not None:
        raise ValueError(f"{OURS}: {ours.gave_up}: nothing to compare with")
    for lane in lanes:
        if lane is ours or lane.hot or lane.gave_up is not None:
            continue
        if wrong := disagreements(_out(home, ours), _out(home, lane)):
            raise ValueError(f"{lane.engine} differs from {OURS}: {'; '.join(wrong[:3])}")
        tell(f"{lane.engine} computed the same features as {OURS}")
