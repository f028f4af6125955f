"""`headrace bench features`: the benchmark of a checkout, a program of its own under `tests/`."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

CHECKOUT = Path(__file__).parents[2]
PROGRAM = "tests.benchmarks.features"


def register(app: typer.Typer) -> None:
    """Add this command."""
    bench = typer.Typer(help="Measurements beside peers, in one run.")
    bench.callback()(lambda: None)
    bench.command()(features)
    app.add_typer(bench, name="bench")


def features(
    sizes: Annotated[str, typer.Option(help="Events of the training sets.")] = "1m,3m,10m",
    runs: Annotated[int, typer.Option(min=1, help="Warm runs after the cold one.")] = 5,
    parts: Annotated[str, typer.Option(help="What is measured.")] = "training,backfill,online",
    engines: Annotated[
        str, typer.Option(help="Engines of the training sets between commas; without it all.")
    ] = "",
    world: Annotated[str, typer.Option(help="Events behind the states read online.")] = "5m",
    out: Annotated[Path | None, typer.Option(help="Folder of the JSON results.")] = None,
) -> None:
    """Training set, backfill and online read beside DuckDB, Polars and Spark's range join."""
    program = CHECKOUT.joinpath(*PROGRAM.split(".")).with_suffix(".py")
    if not program.is_file():
        raise typer.BadParameter(f"{program}: no such file: run this in a checkout of Headrace")
    given = {"sizes": sizes, "runs": str(runs), "parts": parts, "world": world}
    if engines:
        given["engines"] = engines
    if out is not None:
        given["out"] = str(out.resolve())
    options = [text for name, value in given.items() for text in (f"--{name}", value)]
    try:
        done = subprocess.run([sys.executable, "-m", PROGRAM, *options], cwd=CHECKOUT, check=False)
    except KeyboardInterrupt:
        raise typer.Abort from None
    raise typer.Exit(done.returncode)
