"""Results as Markdown tables: what a terminal and the README show."""

from collections.abc import Sequence
from typing import Any

COLUMNS = {
    "training": ("engine", "log", "size", "labels", "start_s", "cold_s", "median_s", "spread_s",
                 "cpu_s", "peak_mib", "gave_up"),
    "backfill": ("run", "events", "tiles", "rebuilt_days", "jvm_start_s", "cold_s", "seconds",
                 "spread_s", "cpu_s", "peak_mib", "events_per_core_s"),
    "online": ("store", "events", "state", "state_bytes", "keys", "p50_ms", "p50_spread_ms",
               "p99_ms", "unchanged_p50_ms", "gave_up"),
    "stream": ("rate", "seconds", "events_before", "commits_before", "p50_s", "p99_s", "max_s",
               "probes", "never_read", "batches", "lag_first", "lag_last", "memory_first_mib",
               "memory_last_mib", "upkeeps"),
}  # fmt: skip


def show(part: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print the table of one part."""
    print(markdown(COLUMNS[part], rows))
    if part == "training":
        for line in verdicts(rows):
            print(line)


def markdown(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table; an absent value is an empty cell."""
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(column)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " – ".join(map(_cell, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The ratios that the targets name, as far as both of their sides were measured."""
    taken = {(r["engine"], r["log"], r["size"]): r["median_s"] for r in rows if "median_s" in r}
    sizes = sorted({row["size"] for row in rows})
    found: list[str] = []
    for size in sizes:
        own = taken.get(("headrace", "even", size))
        if own is None:
            continue
        smallest = taken.get(("headrace", "even", sizes[0])) if size > sizes[0] else None
        pairs = (
            ("DuckDB's range frames / Headrace", taken.get(("duckdb_frames", "even", size)), own),
            ("Headrace / DuckDB expert", own, taken.get(("duckdb_expert", "even", size))),
            ("Headrace / Polars expert", own, taken.get(("polars_expert", "even", size))),
            ("hot / even", taken.get(("headrace", "hot", size)), own),
            (f"{size:,} / {sizes[0]:,} events", own, smallest),
        )
        found += [f"{size:,}: {name} = {a / b:.2f}" for name, a, b in pairs if a and b]
    return found
