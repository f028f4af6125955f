"""`python -m training.variant_process JOB`: one run of one variant in a process of its own.

A process per run, because memory is measured; what it loads is what that variant needs.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.bundle import check_inputs, open_bundle
from training.engine import Engine, Scoring, latency_ms

SIZES = (1, 21, 64, 256)
"""Rows at which latency is measured."""
_AT_ONCE = 256


@dataclass(frozen=True)
class Job:
    """What the process does; paths are absolute."""

    kind: str
    """`onnx`, `compiled` or `gpu`; `compile` writes what `compiled` runs."""
    path: str
    """Of a bundle's folder, or of the compiled module."""
    rows: str = ""
    """`.npz` with `ids` and `dense`, at least the largest of `SIZES`."""
    scores: str = ""
    """Where the scores of all rows go (`.npy`): float32[2, n], scored together and, the first
    `_AT_ONCE` of them, one by one; none are kept where empty."""
    calls: int = 200
    """Of each of the five rounds at each size."""
    use_case: str = ""
    bundle: str = ""
    """Folder of the version's own bundle."""
    digest: str = ""


def main() -> None:
    """Do the job of the first argument and print what was measured as JSON.

    Ends with one line on standard error and exit code 1 where the variant cannot be made here.
    """
    job = Job(**json.loads(sys.argv[1]))
    try:
        found = _compile(job) if job.kind == "compile" else measure(job, _engine(job))
    except Exception as error:
        sys.exit(" ".join(str(error).split()) or repr(error))
    print(json.dumps(found))


def measure(job: Job, engine: Scoring) -> dict[str, Any]:
    """`p50_ms` and `p99_ms` in the order of `SIZES`, `rss_mib` of this process after them."""
    with np.load(job.rows, allow_pickle=False) as held:
        ids, dense = held["ids"], held["dense"]
    check_inputs(open_bundle(Path(job.bundle), job.digest), ids, dense)
    first = [(ids[:size].copy(), dense[:size].copy()) for size in SIZES]
    taken = [latency_ms(engine, *rows, job.calls) for rows in first]
    rss = _resident_mib()
    if job.scores:
        cuts = [slice(at, at + _AT_ONCE) for at in range(0, len(ids), _AT_ONCE)]
        together = np.concatenate([engine.score(ids[cut], dense[cut]) for cut in cuts])
        alone = together.copy()
        for at in range(min(_AT_ONCE, len(ids))):
            alone[at] = engine.score(ids[at : at + 1], dense[at : at + 1])[0]
        np.save(job.scores, np.stack([together, alone]))
    return {"p50_ms": [p50 for p50, _ in taken], "p99_ms": [p99 for _, p99 in taken],
            "rss_mib": rss}  # fmt: skip


def argument(job: Job) -> str:
    """The program's argument for a job."""
    return json.dumps(asdict(job))


def _engine(job: Job) -> Scoring:
    if job.kind == "onnx":
        return Engine(Path(job.path))
    # Imported here: an ONNX variant's process holds no torch.
    import torch

    from training.torch_engines import Compiled, OnGpu

    torch.set_num_threads(1)
    return Compiled(Path(job.path)) if job.kind == "compiled" else OnGpu(_scorer(job)[0])


def _compile(job: Job) -> Mapping[str, Any]:
    import torch

    from training.torch_engines import compile_ahead

    torch.set_num_threads(1)
    scorer, ids, dense = _scorer(job)
    compile_ahead(scorer, ids, dense, Path(job.path))
    return {}


def _scorer(job: Job) -> tuple[Any, int, int]:
    from data_contracts.use_case import load_use_case
    from training.export import Scorer
    from training.restored import restored

    use_case, folder = load_use_case(job.use_case), Path(job.bundle)
    manifest = open_bundle(folder, job.digest)
    scorer = Scorer(restored(use_case, manifest, folder)).eval()
    return scorer, len(manifest.categorical), len(manifest.features) + len(manifest.numeric)


def _resident_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("VmRSS"))
    return int(kib) / 1024


if __name__ == "__main__":
    main()
