"""`headrace bench training`: our loop beside a bare one, a peer's, and trees to the same log loss.

All run on one thread, so seconds are of the processor: neighbours on the machine count little.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from dagster_project.quiet import quiet
from data_contracts.encoding import Categorical
from data_contracts.model_spec import ModelSpec
from tests.benchmarks.features import size
from tests.benchmarks.machine import machine
from tests.benchmarks.peers import Environment, NotMade, interpreter, versions
from tests.benchmarks.tables import markdown
from training import batches
from training.batches import Batch, Rows, Shuffled
from training.data import Dataset, TrainingData
from training.fit import fit
from training.models.inputs import one_dimension
from training.models.names import NEURAL, TREES
from training.models.zoo import build_model
from training.module import CtrModule

COLUMNS = ("model", "batch", "ours_per_s", "bare_per_s", "ratio", "input_share",
           "input_share_in_files", "peer_per_s", "peer_ratio", "peer_gave_up")  # fmt: skip
LOSSES = ("model", "batch", "log_loss", "seconds", "lightgbm_seconds", "lightgbm_log_loss",
          "truth_log_loss")  # fmt: skip
EPOCHS = 3
FIELDS, IDS, NUMBERS = 5, 1024, 30
RESULTS = Path(__file__).parent / "results"
# It imports requests without asking for it.
TABULAR = Environment(
    "pytorch_tabular>=1.2",
    shared=("torch", "numpy", "pandas", "pytorch-lightning", "requests"),
)
"""PyTorch Tabular, whose model of embeddings and an MLP lacks our models' crosses."""


def main() -> None:
    """Measure, print and write."""
    options = _options()
    quiet()
    result: dict[str, Any] = {"part": "training_loop", "machine": machine(), "simulated": True}
    result |= {"training_rows": options.rows, "rows": [], "losses": []}
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "training_loop.json"
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as place:
        for batch in options.batches:
            peer = Peer(Path(place), options.rows, batch)
            for name in options.models:
                result["rows"].append(measure(name, options.rows, batch, options.runs, peer))
                print(json.dumps(result["rows"][-1]), file=sys.stderr, flush=True)
                kept.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
            result["peer"] = peer.about
    for name in options.models:
        result["losses"].append(to_the_same_loss(name, options.rows, options.batches[0]))
    kept.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(markdown(COLUMNS, result["rows"]), "", markdown(LOSSES, result["losses"]), sep="\n")
    print(f"written: {kept}", file=sys.stderr)


def _options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(prog="headrace bench training", description=__doc__)
    parser.add_argument("--rows", type=size, default=size("100k"), help="Training rows.")
    parser.add_argument("--batches", type=lambda text: [size(t) for t in text.split(",")],
                        default=[512, 2048])  # fmt: skip
    parser.add_argument("--models", type=names, default=["logistic", "dcn_v2"])
    parser.add_argument("--runs", type=int, default=3, help="Interleaved runs of each loop.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if unknown := set(options.models) - set(NEURAL):
        parser.error(f"--models {sorted(unknown)}: choose from {', '.join(NEURAL)}, not {TREES}")
    return options


class Peer:
    """PyTorch Tabular on the same rows and batches; its reason where it cannot be had."""

    def __init__(self, place: Path, rows: int, batch: int) -> None:
        self._rows, self._batch = place / f"{rows}.npz", batch
        self.about: dict[str, str] = {}
        self.taken: list[float] = []
        """Seconds of all epochs but the first, a run each."""
        self.gave_up: str | None = None
        if not self._rows.exists():
            made = _rows(rows, 0)
            width = one_dimension(_spec(batch))
            np.savez(self._rows, ids=made.ids, dense=made.dense, labels=made.labels, width=width)

    def measure(self) -> None:
        """One run more, unless it has given up."""
        if self.gave_up is not None:
            return
        try:
            python = interpreter(TABULAR)
            self.about = versions(python, "pytorch_tabular", *TABULAR.shared)
        except NotMade as why:
            self.gave_up = str(why)
            return
        options = [str(self._rows), str(self._batch), str(EPOCHS)]
        done = subprocess.run(
            [str(python), "-m", "tests.benchmarks.tabular_peer", *options],
            capture_output=True, text=True, cwd=self._rows.parent,
            env={**os.environ, "PYTHONPATH": str(RESULTS.parents[2])},
        )  # fmt: skip
        if done.returncode:
            self.gave_up = " ".join(done.stderr.split())[-300:]
            return
        self.taken.append(float(json.loads(done.stdout.strip().splitlines()[-1])))


def measure(name: str, rows: int, batch: int, runs: int, peer: Peer) -> dict[str, Any]:
    """Median samples/s of the loops over interleaved runs, and the input's share of our step, with
    the rows in memory and in files. The peer has one model, which is measured once."""
    spec = _spec(batch)
    taken: dict[str, list[float]] = {"ours": [], "bare": [], "peer": peer.taken}
    waits: dict[str, list[float]] = {"memory": [], "files": []}
    with tempfile.TemporaryDirectory() as place:
        inside, outside = _dataset(rows, None), _dataset(rows, Path(place))
        for number in range(runs):
            seconds, wait = _ours(name, spec, inside)
            taken["ours"].append(seconds)
            waits["memory"].append(wait / seconds)
            seconds, wait = _ours(name, spec, outside)
            waits["files"].append(wait / seconds)
            taken["bare"].append(_bare(name, spec, inside))
            if len(peer.taken) <= number:
                peer.measure()
    done = rows * (EPOCHS - 1)
    pace = {loop: done / median(spent) for loop, spent in taken.items() if spent}
    found = {f"{loop}_per_s": round(each) for loop, each in pace.items()}
    ratios = {"ratio": pace["ours"] / pace["bare"]}
    if "peer" in pace:
        ratios["peer_ratio"] = pace["ours"] / pace["peer"]
    return {
        "model": name, "batch": batch, **found,
        **{ratio: round(value, 3) for ratio, value in ratios.items()},
        "input_share": round(median(waits["memory"]), 4),
        "input_share_in_files": round(median(waits["files"]), 4),
        "peer_gave_up": peer.gave_up,
        **{f"{loop}_s": [round(each, 3) for each in spent] for loop, spent in taken.items()},
    }  # fmt: skip


def to_the_same_loss(name: str, rows: int, batch: int) -> dict[str, Any]:
    """Processor seconds of a fit up to its best epoch, and those of LightGBM until its validation
    log loss is as low, on the same rows; None where it never is."""
    spec = replace(_spec(batch), max_epochs=12, patience=2)
    splits = {"train": _rows(rows, 0), "validation": _rows(rows // 5, 1), "test": _rows(1, 2)}
    dataset = Dataset(splits, 0, "", item=(0,))
    moments: list[list[float]] = []
    curves = []
    for each in (name, TREES):
        start, ends = time.process_time(), []
        fitted = fit(each, spec, TrainingData(dataset, spec),
                     lambda *_, ends=ends: ends.append(time.process_time()))  # fmt: skip
        moments.append([end - start for end in ends])
        curves.append([epoch.validation for epoch in fitted.curve[1:]])
    best = int(np.argmin(curves[0]))
    reached = [number for number, loss in enumerate(curves[1]) if loss <= curves[0][best]]
    validation = splits["validation"]
    true = 1 / (1 + np.exp(-_logit(validation)))
    sure = np.where(validation.labels > 0, true, 1 - true)
    return {
        "model": name, "batch": batch, "log_loss": round(curves[0][best], 5),
        "seconds": round(moments[0][best], 2),
        "lightgbm_seconds": round(moments[1][reached[0]], 2) if reached else None,
        "lightgbm_log_loss": round(min(curves[1]), 5),
        "lightgbm_all_seconds": round(moments[1][-1], 2), "lightgbm_rounds": len(curves[1]),
        "truth_log_loss": round(float(-np.log(sure).mean()), 5),
    }  # fmt: skip


def _spec(batch: int) -> ModelSpec:
    return ModelSpec(
        categorical=tuple(Categorical(f"field_{n}", IDS) for n in range(FIELDS)),
        item=("field_0",),
        batch_size=batch,
        max_epochs=EPOCHS,
        patience=EPOCHS,
    )


def _rows(n: int, seed: int) -> Rows:
    """Ids and numbers of which some act alone and some together: about a seventh are positive."""
    rng = np.random.default_rng(seed)
    rows = Rows(
        rng.integers(0, IDS, (n, FIELDS)),
        rng.normal(size=(n, NUMBERS)).astype(np.float32),
        np.empty(n, np.float32),
    )
    rows.labels[:] = rng.random(n) < 1 / (1 + np.exp(-_logit(rows)))
    return rows


def _logit(rows: Rows) -> np.ndarray:
    effects = np.random.default_rng(99).normal(size=(2, IDS)) * 0.7
    alone = effects[0, rows.ids[:, 0]] + rows.dense[:, 0] * 0.5 + np.abs(rows.dense[:, 1]) * 0.5
    together = effects[1, rows.ids[:, 1]] * rows.dense[:, 2] + rows.dense[:, 3] * rows.dense[:, 4]
    return -2.6 + alone + 0.6 * together


def _dataset(rows: int, folder: Path | None) -> Dataset:
    """The rows in memory, or in files of a folder."""
    train = _rows(rows, 0)
    if folder is not None:
        with patch.object(batches, "IN_MEMORY", 0):
            held = [batches.room(folder, a.shape, a.dtype.type)
                    for a in (train.ids, train.dense, train.labels)]  # fmt: skip
        for to, source in zip(held, (train.ids, train.dense, train.labels), strict=True):
            to[:] = source
        train = Rows(*held)
    return Dataset({"train": train, "validation": _rows(1, 1), "test": _rows(1, 2)}, 0, "", (0,))


def _ours(name: str, spec: ModelSpec, dataset: Dataset) -> tuple[float, float]:
    """Seconds of all epochs but the first, and how many of them waited for batches."""
    moments: list[float] = []
    waits: list[float] = []
    waited = Waited()

    def tell(*_: int) -> None:
        moments.append(time.process_time())
        waits.append(waited.seconds)

    with patch.object(Shuffled, "__iter__", waited.counting(Shuffled.__iter__)):
        fit(name, spec, TrainingData(dataset, spec), tell)
    return moments[-1] - moments[0], waits[-1] - waits[0]


def _bare(name: str, spec: ModelSpec, dataset: Dataset) -> float:
    """The same for the loop of PyTorch's tutorial."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    data = TrainingData(dataset, spec)
    module = CtrModule(build_model(name, spec, dataset.seen(spec)), spec)
    optimiser = module.configure_optimizers()
    module.model.train()
    start = 0.0
    for epoch in range(EPOCHS):
        if epoch == 1:
            start = time.process_time()
        for ids, dense, labels in data.train_dataloader():
            optimiser.zero_grad()
            binary_cross_entropy_with_logits(module.model(ids, dense), labels).backward()
            optimiser.step()
    seconds = time.process_time() - start
    torch.set_num_threads(threads)
    return seconds


class Waited:
    """How long batches were waited for."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def counting(self, batches: Callable[[Shuffled], Iterator[Batch]]) -> Any:
        """The same iteration, which counts here."""

        def over(shuffled: Shuffled) -> Iterator[Batch]:
            source = batches(shuffled)
            while True:
                start = time.process_time()
                batch = next(source, None)
                self.seconds += time.process_time() - start
                if batch is None:
                    return
                yield batch

        return over


if __name__ == "__main__":
    main()
