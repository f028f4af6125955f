"""`headrace bench serving`: requests of one user and 20 candidates, beside other ways to serve."""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from deltalake import DeltaTable

from dagster_project.quiet import quiet
from data_contracts.lake import Lake
from serving.isolation import choose_ports
from tests.benchmarks.machine import machine
from tests.benchmarks.tables import markdown

HERE = Path(__file__).parent
CANDIDATES = 20
CONNECTIONS = 16
SERVERS: dict[str, tuple[str, ...]] = {
    "headrace, plain": ("plain",),
    "headrace, Ray Serve": ("one_hop",),
    "uvicorn, ONNX": ("bare", "onnx"),
    "uvicorn, eager": ("bare", "eager"),
    "Ray Serve, defaults": ("ray_serve", "defaults"),
    "Ray Serve, two deployments": ("ray_serve", "two"),
}
COLUMNS = ("server", "start_s", "rps_1", "rps", "rps_spread", "cpu_ms", "cpu_spread", "p99_ms",
           "half_rps", "half_p50_ms", "half_p99_ms", "errors")  # fmt: skip
_PATIENCE_S = 180.0


def main() -> None:
    """Measure, print and write."""
    options = _options()
    quiet()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "serving.json"
    lake = Lake(options.root.resolve(), "clicks")
    result: dict[str, Any] = {"part": "serving", "machine": machine(), "rows": []}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as place:
        bodies = Path(place) / "bodies.jsonl"
        write_bodies(lake, bodies)
        for name in options.servers or SERVERS:
            row = measure(name, lake.root, bodies, options.runs, options.seconds)
            result["rows"].append(row)
            kept.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
            print(markdown(COLUMNS, [row]).splitlines()[-1], file=sys.stderr, flush=True)
    print(markdown(COLUMNS, result["rows"]))
    print(f"written: {kept}", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="headrace bench serving", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(".headrace"), help="A demo's root.")
    parser.add_argument("--servers", type=lambda text: text.split(";"), help=f"Of {[*SERVERS]}.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="Of one run.")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    return parser.parse_args()


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


def measure(name: str, root: Path, bodies: Path, runs: int, seconds: float) -> dict[str, Any]:
    """One server: a warm-up, closed loops of one and of many connections, then half of what it
    could do as an open loop."""
    with started(SERVERS[name], root) as (url, process, start_s):
        target = f"{url}/clicks/v1/predict"
        load(target, bodies, "closed", 4, 2.0)
        single = load(target, bodies, "closed", 1, seconds)
        found, spent = [], []
        for _ in range(runs):
            before = cpu_seconds(process.pid)
            found.append(load(target, bodies, "closed", CONNECTIONS, seconds))
            spent.append((cpu_seconds(process.pid) - before) * 1000 / found[-1]["requests"])
        rates = [run["rps"] for run in found]
        half = load(target, bodies, "open", median(rates) / 2, 2 * seconds)
        everything = [single, *found, half]
        errors = sum(run["requests"] - run["statuses"].get("200", 0) for run in everything)
        return {
            "server": name,
            "start_s": round(start_s, 1),
            "rps_1": single["rps"],
            "rps": round(median(rates), 1),
            "rps_spread": [min(rates), max(rates)],
            "cpu_ms": round(median(spent), 2),
            "cpu_spread": [round(min(spent), 2), round(max(spent), 2)],
            "p99_ms": round(median(run["p99_ms"] for run in found), 1),
            "half_rps": half["rps"],
            "half_p50_ms": half["p50_ms"],
            "half_p99_ms": half["p99_ms"],
            "errors": errors,
        }


@contextmanager
def started(
    server: Sequence[str], root: Path
) -> Generator[tuple[str, subprocess.Popen[bytes], float]]:
    """(url, process, seconds until it answered) of a server; RuntimeError when it does not."""
    port, began = choose_ports("127.0.0.1", 0).http, time.monotonic()
    module, *rest = server
    command = [sys.executable, "-m", f"tests.benchmarks.servers.{module}", str(root), str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, *rest], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            pause = threading.Event()
            while not _answers(url):
                if process.poll() is not None or time.monotonic() - began > _PATIENCE_S:
                    log.seek(0)
                    tail = log.read()[-2000:].decode(errors="replace")
                    raise RuntimeError(f"{server}: did not get ready:\n{tail}")
                pause.wait(0.1)
            yield url, process, time.monotonic() - began
        finally:
            tree: list[psutil.Process] = []
            with suppress(psutil.Error):
                tree = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            for each in [*tree, process]:
                with suppress(psutil.Error):
                    each.kill()
            process.wait()


def load(url: str, bodies: Path, mode: str, value: float, seconds: float) -> dict[str, Any]:
    """What the generator says."""
    options = [url, str(bodies), mode, str(value), str(seconds)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.load", *options],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def cpu_seconds(pid: int) -> float:
    """Processor seconds of a process and everything below it."""
    total, own = 0.0, psutil.Process(pid)
    for each in [own, *own.children(recursive=True)]:
        with suppress(psutil.Error):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    main()
