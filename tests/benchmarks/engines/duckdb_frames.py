"""DuckDB as a user writes it: events and labels in one table, a range frame for each window."""

from pathlib import Path

import duckdb

from tests.benchmarks.definitions import ENTITIES, WINDOWS
from tests.benchmarks.log import EVENTS, LABELS


def start(scratch: Path) -> None:
    """Nothing runs beside a query."""


def training_set(log: Path, out: Path) -> None:
    """Write the labels of `log` with their features to a parquet file in the folder `out`."""
    out.mkdir()
    events, labels = f"read_parquet('{log / EVENTS}')", f"read_parquet('{log / LABELS}')"
    parts = {name: _features(name, key, events, labels) for name, key in ENTITIES.items()}
    joined = " JOIN ".join(f"({query}) AS {name}" for name, query in parts.items())
    using = "" if len(parts) < 2 else " USING (label)"
    query = f"SELECT * FROM {labels} JOIN ({'SELECT * FROM ' + joined + using}) USING (label)"
    with duckdb.connect() as db:
        db.execute(f"COPY ({query}) TO '{out / 'part.parquet'}' (FORMAT parquet)")


def _features(name: str, key: str, events: str, labels: str) -> str:
    columns: list[str] = []
    frames: list[str] = []
    for window in WINDOWS:
        tail = f"t - (t - {window.width} - (t - {window.width}) % {window.hop})"
        frame = f"f{window.name}"
        frames.append(
            f"{frame} AS (PARTITION BY key ORDER BY t "
            f"RANGE BETWEEN {tail} PRECEDING AND 1 PRECEDING)"
        )
        seen = f"count(price) OVER {frame}"
        made = {
            "count": f"{seen}::DOUBLE",
            "sum": f"coalesce(sum(price) OVER {frame}, 0)",
            "mean": f"coalesce(avg(price) OVER {frame}, 0)",
            "min": f"coalesce(min(price) OVER {frame}, 0)",
            "max": f"coalesce(max(price) OVER {frame}, 0)",
            "last": f"coalesce(last_value(price IGNORE NULLS) OVER {frame}, 0)",
        }
        columns += [f"{v} AS {name}_{k}_{window.name}" for k, v in made.items()]
    both = (
        f"SELECT {key} AS key, epoch_us(event_time) AS t, price, NULL::BIGINT AS label "
        f"FROM {events} UNION ALL "
        f"SELECT {key}, epoch_us(event_time), NULL, label FROM {labels}"
    )
    return (
        f"SELECT * EXCLUDE (key, t, price) FROM (SELECT key, t, price, label, "
        f"{', '.join(columns)} FROM ({both}) WINDOW {', '.join(frames)}) WHERE label IS NOT NULL"
    )
