"""`headrace bench …`: benchmarks of a checkout, programs of their own under `tests/`."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

CHECKOUT = Path(__file__).parents[2]
PROGRAMS = "tests.benchmarks"


def register(app: typer.Typer) -> None:
    """Add this command."""
    bench = typer.Typer(help="Measurements beside peers, in one run.")
    bench.callback()(lambda: None)
    bench.command()(features)
    bench.command()(gates)
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
    given = {"sizes": sizes, "runs": str(runs), "parts": parts, "world": world}
    if engines:
        given["engines"] = engines
    _run("features", given, out)


def gates(
    releases: Annotated[int, typer.Option(min=1, help="Simulated A/A releases.")] = 1000,
    faulty: Annotated[int, typer.Option(min=1, help="Releases of each faulty kind.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of the JSON result.")] = None,
) -> None:
    """False and true alarms of the release checks in simulated releases, beside fixed rules."""
    given = {"releases": str(releases), "faulty": str(faulty), "seed": str(seed)}
    _run("gates", given, out)


def _run(name: str, given: dict[str, str], out: Path | None) -> NoReturn:
    module = f"{PROGRAMS}.{name}"
    program = CHECKOUT.joinpath(*module.split(".")).with_suffix(".py")
    if not program.is_file():
        raise typer.BadParameter(f"{program}: no such file: run this in a checkout of Headrace")
    if out is not None:
        given = {**given, "out": str(out.resolve())}
    options = [text for name, value in given.items() for text in (f"--{name}", value)]
    try:
        done = subprocess.run([sys.executable, "-m", module, *options], cwd=CHECKOUT, check=False)
    except KeyboardInterrupt:
        raise typer.Abort from None
    raise typer.Exit(done.returncode)
