"""`headrace bench …`: the benchmarks of a checkout, programs of their own under `tests/`."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from training.models.names import MODELS

CHECKOUT = Path(__file__).parents[2]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder of the JSON results.")]


def register(app: typer.Typer) -> None:
    """Add this command."""
    bench = typer.Typer(help="Measurements beside peers, in one run.")
    bench.command()(features)
    bench.command()(gates)
    bench.command()(training)
    bench.command()(models)
    bench.command()(serving)
    app.add_typer(bench, name="bench")


def features(
    sizes: Annotated[str, typer.Option(help="Events of the training sets.")] = "1m,3m,10m",
    runs: Annotated[int, typer.Option(min=1, help="Warm runs after the cold one.")] = 5,
    parts: Annotated[
        str, typer.Option(help="What is measured.")
    ] = "training,backfill,online,stream",
    engines: Annotated[
        str, typer.Option(help="Engines of the training sets between commas; without it all.")
    ] = "",
    world: Annotated[str, typer.Option(help="Events before online reads and stream.")] = "5m",
    rates: Annotated[str, typer.Option(help="Events a second of the stream.")] = "1k,2k",
    seconds: Annotated[int, typer.Option(min=1, help="Of the stream at each rate.")] = 600,
    out: OutOption = None,
) -> None:
    """Training set beside DuckDB, Polars and Spark's range join; backfill, online read, stream."""
    given = {"sizes": sizes, "runs": str(runs), "parts": parts, "world": world}
    given |= {"rates": rates, "seconds": str(seconds)}
    if engines:
        given["engines"] = engines
    _start("features", given, out)


def gates(
    releases: Annotated[int, typer.Option(min=1, help="Simulated A/A releases.")] = 1000,
    faulty: Annotated[int, typer.Option(min=1, help="Releases of each faulty kind.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 1,
    out: OutOption = None,
) -> None:
    """False and true alarms of the release checks in simulated releases, beside fixed rules."""
    given = {"releases": str(releases), "faulty": str(faulty), "seed": str(seed)}
    _start("gates", given, out)


def training(
    rows: Annotated[str, typer.Option(help="Training rows.")] = "100k",
    batches: Annotated[str, typer.Option(help="Sizes of a batch.")] = "512,2048",
    models: Annotated[str, typer.Option(help="Modules of the zoo.")] = "logistic,dcn_v2",
    runs: Annotated[int, typer.Option(min=1, help="Interleaved runs of each loop.")] = 3,
    out: OutOption = None,
) -> None:
    """Samples a second of our loop, a bare one and PyTorch Tabular; trees to the same loss."""
    given = {"rows": rows, "batches": batches, "models": models, "runs": str(runs)}
    _start("training_loop", given, out)


def models(
    models: Annotated[str, typer.Option(help="Models of the zoo.")] = ",".join(MODELS),
    data: Annotated[str, typer.Option(help="What they are fitted on.")] = "obd,deskdrop,world",
    events: Annotated[str, typer.Option(help="Records of the generated world.")] = "200k",
    deskdrop: Annotated[Path | None, typer.Option(help="The Deskdrop log.")] = None,
    out: OutOption = None,
) -> None:
    """Every model on the embedded sample, on Deskdrop, and on a generated world with its truth."""
    given = {"models": models, "data": data, "events": events}
    if deskdrop is not None:
        given["deskdrop"] = str(deskdrop.resolve())
    _start("models", given, out)


def serving(
    root: Annotated[Path, typer.Option(help="Where `headrace demo` has run.")] = Path(".headrace"),
    servers: Annotated[str, typer.Option(help="Names between `;`; without it all.")] = "",
    runs: Annotated[int, typer.Option(min=1, help="Rounds through all servers.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Of one load.")] = 5.0,
    out: OutOption = None,
) -> None:
    """Requests a second and processor time beside other servers, and in a release."""
    given = {"root": str(root.resolve()), "runs": str(runs), "seconds": str(seconds)}
    if servers:
        given["servers"] = servers
    _start("serving", given, out)


def _start(program: str, given: Mapping[str, str], out: Path | None) -> NoReturn:
    path = CHECKOUT / "tests/benchmarks" / f"{program}.py"
    if not path.is_file():
        raise typer.BadParameter(f"{path}: no such file: run this in a checkout of Headrace")
    if out is not None:
        given = {**given, "out": str(out.resolve())}
    options = [text for name, value in given.items() for text in (f"--{name}", value)]
    command = [sys.executable, "-m", f"tests.benchmarks.{program}", *options]
    try:
        done = subprocess.run(command, cwd=CHECKOUT, check=False)
    except KeyboardInterrupt:
        raise typer.Abort from None
    raise typer.Exit(done.returncode)
