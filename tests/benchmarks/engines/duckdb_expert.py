"""DuckDB as an expert writes it: prefix sums and ASOF joins; extremes from tiles and their heads.

A window of the law is whole tiles of its hop and the head of the tile under way, so a minimum is
that of a range frame over few tiles and of a running minimum within one.
"""

from collections.abc import Iterator
from pathlib import Path

import duckdb

from tests.benchmarks.definitions import ENTITIES, WINDOWS, Frame
from tests.benchmarks.log import EVENTS, LABELS


def start(scratch: Path) -> None:
    """Nothing runs beside a query."""


def training_set(log: Path, out: Path) -> None:
    """Write the labels of `log` with their features to a parquet file in the folder `out`."""
    out.mkdir()
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE labels AS SELECT * FROM read_parquet('{log / LABELS}')")
        for name, key in ENTITIES.items():
            for step in _steps(name, key, log / EVENTS):
                db.execute(step)
        joined = " ".join(f"JOIN {name} USING (label)" for name in ENTITIES)
        query = f"SELECT * FROM labels {joined}"
        db.execute(f"COPY ({query}) TO '{out / 'part.parquet'}' (FORMAT parquet)")


def _steps(name: str, key: str, events: Path) -> Iterator[str]:
    hops = sorted({window.hop for window in WINDOWS})
    heads = ", ".join(
        f"min(price) OVER h{hop} AS least_{hop}, max(price) OVER h{hop} AS most_{hop}"
        for hop in hops
    )
    within = ", ".join(
        f"h{hop} AS (PARTITION BY key, t // {hop} ORDER BY t ROWS UNBOUNDED PRECEDING)"
        for hop in hops
    )
    yield (
        f"CREATE OR REPLACE TABLE e AS SELECT key, t, price, count(*) OVER o AS n, "
        f"sum(price) OVER o AS total, {heads} FROM (SELECT {key} AS key, "
        f"epoch_us(event_time) AS t, price FROM read_parquet('{events}')) "
        f"WINDOW o AS (PARTITION BY key ORDER BY t ROWS UNBOUNDED PRECEDING), {within}"
    )
    yield (
        f"CREATE OR REPLACE TABLE q AS SELECT label, l.key, q, e.t, price, n, total, "
        f"{', '.join(f'least_{hop}, most_{hop}' for hop in hops)} "
        f"FROM (SELECT label, {key} AS key, epoch_us(event_time) AS q FROM labels) AS l "
        f"ASOF LEFT JOIN e ON l.key = e.key AND l.q > e.t"
    )
    for i, window in enumerate(WINDOWS):
        yield f"CREATE OR REPLACE TABLE w{i} AS {_window(name, window)}"
    joined = " ".join(f"JOIN w{i} USING (label)" for i in range(1, len(WINDOWS)))
    yield f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM w0 {joined}"


def _window(name: str, window: Frame) -> str:
    width, hop = window.width, window.hop
    tiles = (
        f"SELECT key, tile, any_value(least) AS least, any_value(most) AS most FROM ("
        f"SELECT key, tile, min(a) OVER f AS least, max(b) OVER f AS most FROM ("
        f"SELECT key, t // {hop} * {hop} AS tile, min(price) AS a, max(price) AS b "
        f"FROM e GROUP BY ALL UNION ALL "
        f"SELECT DISTINCT key, q // {hop} * {hop}, NULL, NULL FROM q) "
        f"WINDOW f AS (PARTITION BY key ORDER BY tile "
        f"RANGE BETWEEN {width} PRECEDING AND 1 PRECEDING)) GROUP BY ALL"
    )
    before = "(SELECT key, t, n AS n0, total AS total0 FROM e)"
    head = f"CASE WHEN q.t >= q // {hop} * {hop} THEN"
    seen = "coalesce(q.n, 0) - coalesce(n0, 0)"
    made = {
        "count": f"({seen})::DOUBLE",
        "sum": f"CASE WHEN {seen} > 0 THEN q.total - coalesce(total0, 0) ELSE 0 END",
        "mean": f"CASE WHEN {seen} > 0 THEN (q.total - coalesce(total0, 0)) / ({seen}) ELSE 0 END",
        "min": f"coalesce(least({head} least_{hop} END, tiles.least), 0)",
        "max": f"coalesce(greatest({head} most_{hop} END, tiles.most), 0)",
        "last": f"CASE WHEN {seen} > 0 THEN q.price ELSE 0 END",
    }
    columns = ", ".join(f"{v} AS {name}_{k}_{window.name}" for k, v in made.items())
    return (
        f"SELECT label, {columns} FROM (SELECT *, (q - {width}) // {hop} * {hop} AS lo, "
        f"q // {hop} * {hop} AS tile FROM q) AS q "
        f"ASOF LEFT JOIN {before} AS b ON q.key = b.key AND q.lo > b.t "
        f"LEFT JOIN ({tiles}) AS tiles ON q.key = tiles.key AND q.tile = tiles.tile"
    )
