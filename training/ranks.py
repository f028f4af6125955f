"""A fit on several devices, a process each: `python -m training.ranks FOLDER`.

Lightning starts the other ranks by running rank 0's command line again, so that command must do
nothing but train: neither `headrace train` nor Dagster may be it.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from threading import Thread

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from data_contracts.model_spec import ModelSpec
from training.batches import WINDOW, Rows
from training.best_epoch import Checkpoint
from training.data import Dataset, TrainingData
from training.fitted import Epoch, OnEpoch
from training.loop import Trained, run

_JOB, _RESULT = "job.pickle", "result.pt"
"""What is to be done, written and read by this file alone, and what came of it."""
_COLUMNS = ("ids", "dense", "labels")


def run_ranks(
    model: nn.Module,
    spec: ModelSpec,
    data: TrainingData,
    on_epoch: OnEpoch | None,
    checkpoint: Checkpoint | None,
) -> Trained:
    """As `training.loop.run` does, on `spec.devices` devices.

    Rows are handed over in files, beside the checkpoint where there is one. RuntimeError with the
    last line that a rank that failed has said.
    """
    place = checkpoint.path.parent if checkpoint else None
    with tempfile.TemporaryDirectory(dir=place, prefix="ranks-") as home:
        folder = Path(home)
        for split in ("train", "validation"):
            _write_rows(data.dataset.splits[split], folder / split)
        job = pickle.dumps((model, spec, data.dataset.item, checkpoint))
        (folder / _JOB).write_bytes(job)
        _started(spec, folder, on_epoch)
        result = torch.load(folder / _RESULT, weights_only=True)
    curve = [Epoch(*row) for row in result["curve"]]
    best = None if result["best"] is None else curve[result["best"]]
    return Trained(curve, best, result["state"])


def _started(spec: ModelSpec, folder: Path, on_epoch: OnEpoch | None) -> None:
    """Run the ranks to their end; none outlives this, nor this process where it is killed."""
    said = folder / "stderr"
    with said.open("wb") as errors, subprocess.Popen(
        [sys.executable, "-m", "training.ranks", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        env={name: value for name, value in os.environ.items() if name != "LOCAL_RANK"},
        start_new_session=True,
    ) as first:  # fmt: skip
        assert first.stdout is not None
        try:
            for line in first.stdout:
                done, most = map(int, line.split())
                if on_epoch:
                    on_epoch(done, most)
            first.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(first.pid, signal.SIGKILL)
    if first.returncode:
        lines = said.read_text(errors="replace").strip().splitlines() or [str(first.returncode)]
        raise RuntimeError(f"a fit on {spec.devices} devices ended: {lines[-1]}")


def _write_rows(rows: Rows, folder: Path) -> None:
    folder.mkdir()
    for name in _COLUMNS:
        array = getattr(rows, name)
        file = np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", dtype=array.dtype, shape=array.shape
        )
        for at in range(0, len(array), WINDOW):
            file[at : at + WINDOW] = array[at : at + WINDOW]
        file.flush()


def _read_rows(folder: Path) -> Rows:
    return Rows(*(np.load(folder / f"{name}.npy", mmap_mode="c") for name in _COLUMNS))


def main() -> None:
    """One rank: train, and as rank 0 tell each epoch and leave the result."""
    folder = Path(sys.argv[1])
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if rank == 0:
        Thread(target=_end_with_parent, daemon=True).start()
    else:
        # Rank 0 alone holds the pipe, which ends with it.
        os.dup2(2, 1)
    model, spec, item, checkpoint = pickle.loads((folder / _JOB).read_bytes())
    splits = {split: _read_rows(folder / split) for split in ("train", "validation")}
    data = TrainingData(Dataset(splits, 0, "", item), spec)
    trained = run(model, spec, data, _tell, checkpoint)
    if rank == 0:
        best = trained.best and trained.best.epoch
        curve = [list(astuple(epoch)) for epoch in trained.curve]
        torch.save({"curve": curve, "best": best, "state": trained.state}, folder / _RESULT)


def _end_with_parent() -> None:
    """Kill all ranks once the other end of standard input is gone: whoever is killed lets go of the
    folder in which they leave the state of the fit, and another training may go on from there."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


@rank_zero_only
def _tell(done: int, most: int) -> None:
    print(done, most, flush=True)


if __name__ == "__main__":
    main()
