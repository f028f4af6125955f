"""Variants of a bundle made in a folder of ours, and run in turn, each run in its own process."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from data_contracts.bundle import GRAPH, golden_rows, open_bundle, write_golden
from training.engine import Engine
from training.progress import OnProgress
from training.variant_graphs import FORMS, NotMade, Sample
from training.variant_process import Job, argument

OWN = "fp32"
"""The version's own graph."""
COMPILED, GPU = "aot_inductor", "gpu_bf16"
VARIANTS = (*FORMS, COMPILED, GPU)


@dataclass
class Made:
    """A variant: how it runs, where it lies, and what its runs measured."""

    job: Job
    folder: Path
    saves: Literal["time", "memory"] = "time"
    runs: list[dict[str, Any]] = field(default_factory=list)
    """Of `variant_process.measure`."""

    @property
    def bytes(self) -> int:
        """Of its graph, or of its compiled code."""
        path = Path(self.job.path)
        return (path / GRAPH if path.is_dir() else path).stat().st_size


def make(
    names: tuple[str, ...], first: Job, sample: Sample, home: Path
) -> tuple[dict[str, Made], dict[str, str]]:
    """The variants that could be made below `home`, the version's own first, and why others not.

    `first`: the run of the version's own opened bundle.
    """
    bundle = Path(first.bundle)
    made, missing = {OWN: Made(first, bundle)}, dict[str, str]()
    for name in names:
        folder = home / "variants" / name
        folder.mkdir(parents=True)
        job = replace(first, scores=str(home / f"{name}.npy"))
        try:
            if name in FORMS:
                FORMS[name].write(bundle / GRAPH, folder / GRAPH, sample)
                _write_golden(first, folder)
                own = replace(job, path=str(folder))
                made[name] = Made(own, folder, FORMS[name].saves)
            elif name == COMPILED:
                job = replace(job, kind="compile", path=str(folder / "compiled.pt2"))
                _process(job)
                made[name] = Made(replace(job, kind="compiled"), folder)
            elif not torch.cuda.is_available():
                raise NotMade("no GPU here")
            else:
                made[name] = Made(replace(job, kind="gpu"), folder)
        except NotMade as why:
            missing[name] = f"not made: {why}"
    return made, missing


def run_in_turn(made: dict[str, Made], runs: int, report: OnProgress) -> dict[str, str]:
    """Run all variants, then all again, `runs` times; one that fails is taken out and told why.

    Raises NotMade where the version's own graph fails.
    """
    failed: dict[str, str] = {}
    for turn in range(runs):
        for done, (name, each) in enumerate(list(made.items())):
            report(f"run {turn + 1}, {name}", done / len(made))
            try:
                each.runs.append(_process(each.job))
            except NotMade as why:
                if name == OWN:
                    raise
                failed[name] = f"not run: {why}"
                del made[name]
    return failed


def _write_golden(first: Job, folder: Path) -> None:
    """The version's golden rows with the scores of the variant in `folder`."""
    bundle = Path(first.bundle)
    ids, dense, _ = golden_rows(bundle, open_bundle(bundle, first.digest))
    write_golden(folder, ids, dense, Engine(folder).score(ids, dense))


def _process(job: Job) -> dict[str, Any]:
    """What the job's process measured; NotMade with the last line it said."""
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(Path(job.rows).parent / "inductor")}
    command = [sys.executable, "-m", "training.variant_process", argument(job)]
    done = subprocess.run(
        command, env={**os.environ, **cache}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotMade((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return json.loads(done.stdout.splitlines()[-1])
