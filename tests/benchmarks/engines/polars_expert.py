"""Polars as an expert writes it: prefix sums, as-of joins, extremes from tiles and their heads."""

from pathlib import Path

import polars as pl

from tests.benchmarks.definitions import ENTITIES, WINDOWS, Frame
from tests.benchmarks.log import EVENTS, LABELS


def start(scratch: Path) -> None:
    """Nothing runs beside a query."""


def training_set(log: Path, out: Path) -> None:
    """Write the labels of `log` with their features to a parquet file in the folder `out`."""
    out.mkdir()
    labels = pl.read_parquet(log / LABELS)
    found = labels
    for name, key in ENTITIES.items():
        time = pl.col("event_time").dt.epoch("us")
        asked = labels.select("label", key=key, q=time).sort("key", "q")
        columns = pl.scan_parquet(log / EVENTS).select("price", key=key, t=time)
        events = _with_heads(columns.collect().sort("key", "t"))
        newest = asked.join_asof(
            events, left_on="q", right_on="t", by="key", allow_exact_matches=False,
            check_sortedness=False,
        )  # fmt: skip
        made = [_window(name, window, events, newest) for window in WINDOWS]
        found = found.join(pl.concat(made, how="horizontal").with_columns(newest["label"]), "label")
    found.write_parquet(out / "part.parquet")


def _with_heads(events: pl.DataFrame) -> pl.DataFrame:
    """Prefix sums by key, and running extremes within each tile."""
    hops = sorted({window.hop for window in WINDOWS})
    price, t = pl.col("price"), pl.col("t")
    return events.with_columns(
        price.cum_count().over("key").alias("n"),
        price.cum_sum().over("key").alias("total"),
        *(price.cum_min().over("key", t // hop).alias(f"least_{hop}") for hop in hops),
        *(price.cum_max().over("key", t // hop).alias(f"most_{hop}") for hop in hops),
    )


def _window(name: str, window: Frame, events: pl.DataFrame, newest: pl.DataFrame) -> pl.DataFrame:
    """The features of one window, in the order of `newest`."""
    width, hop, q = window.width, window.hop, pl.col("q")
    lows = newest.select("key", "n", "total", "price", "t", "q", f"least_{hop}", f"most_{hop}",
                         lo=(q - width) // hop * hop, tile=q // hop * hop)  # fmt: skip
    before = events.select("key", "t", n0="n", total0="total")
    tiles = events.group_by("key", tile=pl.col("t") // hop * hop).agg(
        least=pl.col("price").min(), most=pl.col("price").max()
    )
    marks = lows.select("key", "tile").unique()
    both = pl.concat([tiles, marks], how="diagonal").sort("key", "tile")
    span = f"{width}i"
    ranges = both.select(
        "key", "tile",
        pl.col("least").rolling_min_by("tile", span, closed="left").over("key"),
        pl.col("most").rolling_max_by("tile", span, closed="left").over("key"),
    ).unique(["key", "tile"])  # fmt: skip
    rows = lows.join_asof(
        before, left_on="lo", right_on="t", by="key", allow_exact_matches=False,
        check_sortedness=False,
    ).join(ranges, ["key", "tile"], "left", maintain_order="left")  # fmt: skip
    n = pl.col("n").fill_null(0).cast(pl.Int64) - pl.col("n0").fill_null(0).cast(pl.Int64)
    total = pl.col("total") - pl.col("total0").fill_null(0.0)
    head = pl.col("t") >= pl.col("tile")
    least = pl.min_horizontal(pl.when(head).then(f"least_{hop}"), "least")
    most = pl.max_horizontal(pl.when(head).then(f"most_{hop}"), "most")
    made = {
        "count": n.cast(pl.Float64),
        "sum": pl.when(n > 0).then(total),
        "mean": pl.when(n > 0).then(total / n),
        "min": least,
        "max": most,
        "last": pl.when(n > 0).then("price"),
    }
    return rows.select(v.fill_null(0.0).alias(f"{name}_{k}_{window.name}") for k, v in made.items())
