"""`headrace bench serving`: requests of one user and 20 candidates, beside other ways to serve.

Rounds: each server in turn is started, warmed, measured and stopped, and then all of them again, so
that a busy minute of the machine is everyone's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from dagster_project.quiet import quiet
from data_contracts.lake import Lake
from data_contracts.rollout import Target
from data_contracts.use_case import load_use_case
from serving.loader import load as load_bundle
from serving.loader import registered_champion
from tests.benchmarks.led import Led, Phase, copied
from tests.benchmarks.machine import machine
from tests.benchmarks.peers import Environment, interpreter, versions
from tests.benchmarks.serving_rows import COLUMNS, PARTS, parts_row, row, verdicts
from tests.benchmarks.started import Started, started
from tests.benchmarks.tables import markdown

HERE = Path(__file__).parent
CANDIDATES = 20
CONNECTIONS = 16
_WARM_S = 2.0


@dataclass(frozen=True)
class Server:
    """How one is started, and what is measured of it."""

    module: str
    options: tuple[str, ...] = ()
    environment: Environment | None = None
    """Where its libraries are not ours."""
    phases: tuple[tuple[Phase, str], ...] = ()
    """Of a release, each with the name of its row; without them there is one row."""


BENTO = Environment("bentoml>=1.4")
# Feast asks for a later Starlette than MLServer's FastAPI takes, for a server of its own that
# nobody starts here; MLServer's workers do not start under a later uvloop.
MLSERVER = Environment("mlserver>=1.7", ("fastapi",), ("starlette>=0.40,<0.47", "uvloop<0.22"))
SERVERS: dict[str, Server] = {
    "headrace, plain": Server("plain"),
    "headrace, Ray Serve": Server("one_hop"),
    "uvicorn, ONNX": Server("bare", ("onnx",)),
    "uvicorn, eager": Server("bare", ("eager",)),
    "Ray Serve, defaults": Server("ray_serve", ("defaults",)),
    "Ray Serve, two deployments": Server("ray_serve", ("two",)),
    "BentoML": Server("bento", (), BENTO),
    "MLServer, one process": Server("mlserver_runtime", ("0",), MLSERVER),
    "MLServer, a worker": Server("mlserver_runtime", ("1",), MLSERVER),
    "headrace, a release": Server(
        "plain",
        phases=(
            ("steady", "headrace, plain, no release"),
            ("shadow", "headrace, plain, shadow of every request"),
            ("canary", "headrace, plain, canary of 5 %"),
        ),
    ),
}


def main() -> None:
    """Measure, print and write."""
    options = _options()
    quiet()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "serving.json"
    lake = Lake(options.root.resolve(), "clicks")
    result: dict[str, Any] = {"part": "serving", "machine": machine()}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as place:
        bench = Bench(lake, Path(place), options.seconds)
        chosen = {name: SERVERS[name] for name in options.servers or SERVERS}
        for number in range(options.runs):
            for name, server in chosen.items():
                print(f"round {number + 1}: {name}", file=sys.stderr, flush=True)
                bench.measure(name, server)
                result |= bench.result()
                kept.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(markdown(COLUMNS, result["rows"]), "", markdown(PARTS, [result["parts"]]), sep="\n")
    print("", *result["verdicts"], sep="\n")
    print(f"written: {kept}", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="headrace bench serving", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(".headrace"), help="A demo's root.")
    parser.add_argument("--servers", type=lambda text: text.split(";"), help=f"Of {[*SERVERS]}.")
    parser.add_argument("--runs", type=int, default=5, help="Rounds.")
    parser.add_argument("--seconds", type=float, default=5.0, help="Of one load.")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    return parser.parse_args()


class Bench:
    """What was found so far, of servers on the champion of `lake`."""

    def __init__(self, lake: Lake, place: Path, seconds: float) -> None:
        self._lake, self._seconds = lake, seconds
        self._bodies = place / "bodies.jsonl"
        write_bodies(lake, self._bodies)
        use_case = load_use_case("clicks")
        champion = registered_champion(use_case, lake)
        # Kept under the root from now on, so that no server asks the registry for it.
        load_bundle(use_case, lake, champion)
        self._champion = f"{champion.version}:{champion.digest}"
        self._released = Lake(place / "released", use_case.name)
        self._second: Target = copied(lake, champion, self._released.root)
        self._runs: dict[str, list[dict[str, Any]]] = {}
        self._gave_up: dict[str, str] = {}
        self._about: dict[str, dict[str, str]] = {}
        self._parts: list[dict[str, Any]] = []

    def result(self) -> dict[str, Any]:
        """JSON-ready: rows of servers, the parts of a request, the ratios of the targets."""
        parts = parts_row(self._parts)
        rows = [row(name, found, parts) for name, found in self._runs.items()]
        rows += [{"server": name, "gave_up": why} for name, why in self._gave_up.items()]
        told = {"rows": rows, "parts": parts, "verdicts": verdicts(rows, parts)}
        return {**told, "environments": self._about}

    def measure(self, name: str, server: Server) -> None:
        """One round of one server; where it fails the reason is kept, and it is left out from then
        on."""
        if name in self._gave_up:
            return
        try:
            self._measured(name, server)
        except (RuntimeError, OSError) as error:
            self._gave_up[name] = " ".join(str(error).split())[-300:]

    def _measured(self, name: str, server: Server) -> None:
        python = Path(sys.executable)
        if server.environment is not None:
            python = interpreter(server.environment)
            peer = server.environment.peer.partition(">")[0]
            names = (peer, "feast", "numpy", "pydantic", "fastapi", "starlette", "uvicorn")
            self._about[name] = versions(python, *names)
        lake = self._released if server.phases else self._lake
        led = Led(lake, self._second) if server.phases else None
        command = [str(python), "-m", f"tests.benchmarks.servers.{server.module}", str(lake.root)]
        self._parts.append(self._apart())
        with started(command, (self._champion, *server.options)) as running:
            try:
                running.compare(self._bodies, self._parts[-1]["scores"])
            except RuntimeError:
                # A window has moved on between the two.
                self._parts[-1] = self._apart()
                running.compare(self._bodies, self._parts[-1]["scores"])
            with led.leading() if led else nullcontext():
                half = 0.0
                for phase, label in server.phases or (("steady", name),):
                    with led.during(phase) if led else nullcontext({}) as told:
                        found = self._loads(running, half)
                    half = half or found["half_rate"]
                    self._runs.setdefault(label, []).append({**found, **told})

    def _loads(self, running: Started, half: float) -> dict[str, Any]:
        """A warm-up, closed loops of one and of many connections, and an open loop at half of what
        the server could do, or at the rate `half` where that is known."""
        running.load(self._bodies, "closed", 4, _WARM_S)
        single = running.load(self._bodies, "closed", 1, self._seconds)
        before = running.cpu_seconds()
        full = running.load(self._bodies, "closed", CONNECTIONS, self._seconds)
        spent = (running.cpu_seconds() - before) * 1000 / full["requests"]
        rate = half or full["rps"] / 2
        before = running.cpu_seconds()
        eased = running.load(self._bodies, "open", rate, 2 * self._seconds)
        eased_ms = (running.cpu_seconds() - before) * 1000 / eased["requests"]
        errors = sum(each["requests"] - each["statuses"].get("200", 0)
                     for each in (single, full, eased))  # fmt: skip
        return {
            "start_s": running.start_s,
            "rps_1": single["rps"],
            "rps": full["rps"],
            "p99_ms": full["p99_ms"],
            "cpu_ms": spent,
            "half_rate": rate,
            "half_rps": eased["rps"],
            "half_cpu_ms": eased_ms,
            "half_p50_ms": eased["p50_ms"],
            "half_p99_ms": eased["p99_ms"],
            "errors": errors,
        }

    def _apart(self) -> dict[str, Any]:
        options = [str(self._lake.root), self._champion, str(self._bodies), str(self._seconds)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.servers.parts", *options],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)


def write_bodies(lake: Lake, path: Path, count: int = 500) -> None:
    """Requests for real users and items of the lake, one a line; ValueError without any."""
    if not DeltaTable.is_deltatable(str(lake.training_set)):
        raise ValueError(f"{lake.training_set}: no training set: run `headrace demo` first")
    rows = DeltaTable(str(lake.training_set)).to_pyarrow_table(columns=["user_id", "item_id"])
    users, items = (sorted(set(rows[name].to_pylist())) for name in ("user_id", "item_id"))
    lines = []
    for i in range(count):
        chosen = [items[(7 * i + 3 * j) % len(items)] for j in range(CANDIDATES)]
        candidates = [{"item_id": item, "position": j % 3 + 1} for j, item in enumerate(chosen)]
        body = {"request_id": "REQUEST", "user_id": users[i % len(users)], "candidates": candidates}
        lines.append(json.dumps(body))
    path.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
