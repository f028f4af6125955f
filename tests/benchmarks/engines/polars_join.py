"""Polars as a user writes it: every label joined with its events, then grouped.

`rolling` cannot say this law: its windows have one width, these have a tail that moves in hops.
"""

from pathlib import Path

import polars as pl

from tests.benchmarks.definitions import ENTITIES, WINDOWS
from tests.benchmarks.log import EVENTS, LABELS


def start(scratch: Path) -> None:
    """Nothing runs beside a query."""


def training_set(log: Path, out: Path) -> None:
    """Write the labels of `log` with their features to a parquet file in the folder `out`."""
    out.mkdir()
    time = pl.col("event_time").dt.epoch("us")
    found = pl.scan_parquet(log / LABELS)
    for name, key in ENTITIES.items():
        asked = pl.scan_parquet(log / LABELS).select("label", key=key, q=time)
        events = pl.scan_parquet(log / EVENTS).select("price", key=key, t=time)
        for window in WINDOWS:
            lows = asked.with_columns(lo=(pl.col("q") - window.width) // window.hop * window.hop)
            inside = (pl.col("t") >= pl.col("lo")) & (pl.col("t") < pl.col("q"))
            price = pl.col("price")
            made = {
                "count": pl.len().cast(pl.Float64),
                "sum": price.sum(),
                "mean": price.mean(),
                "min": price.min(),
                "max": price.max(),
                "last": price.sort_by("t").last(),
            }
            pairs = lows.join(events, "key").filter(inside)
            names = {f"{name}_{k}_{window.name}": v for k, v in made.items()}
            found = found.join(pairs.group_by("label").agg(**names), "label", "left")
    features = pl.exclude("label", "event_time", *ENTITIES.values())
    found.with_columns(features.fill_null(0.0)).collect(engine="streaming").write_parquet(
        out / "part.parquet"
    )
