"""`headrace bench training`: our loop beside a bare one on the same model, batches and optimiser.

Both run on one thread, so seconds are of the processor: neighbours on the machine do not count.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from dagster_project.quiet import quiet
from data_contracts.encoding import Categorical
from data_contracts.model_spec import ModelSpec
from tests.benchmarks.features import size
from tests.benchmarks.machine import machine
from tests.benchmarks.tables import markdown
from training.batches import Batch, Rows
from training.data import Dataset, TrainingData
from training.fit import fit
from training.models.names import NEURAL, TREES
from training.models.zoo import build_model
from training.module import CtrModule

COLUMNS = ("model", "batch", "ours_per_s", "bare_per_s", "ratio", "input_share")
EPOCHS = 3
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure, print and write."""
    options = _options()
    quiet()
    rows = []
    for batch in options.batches:
        for name in options.models:
            rows.append(measure(name, options.rows, batch, options.runs))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    result = {"part": "training_loop", "machine": machine(), "simulated": True, "rows": rows}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "training_loop.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(markdown(COLUMNS, rows))


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


def measure(name: str, rows: int, batch: int, runs: int) -> dict[str, Any]:
    """Median samples/s of both loops over interleaved runs, and the input's share of our step."""
    spec = ModelSpec(
        categorical=tuple(Categorical(f"field_{n}", 1024) for n in range(5)),
        item=("field_0",),
        batch_size=batch,
        max_epochs=EPOCHS,
        patience=EPOCHS,
    )
    splits = {"train": _rows(rows, 0), "validation": _rows(1, 1), "test": _rows(1, 2)}
    dataset = Dataset(splits, 0, "", item=(0,))
    ours: list[float] = []
    bare: list[float] = []
    waits: list[float] = []
    for _ in range(runs):
        ours.append(_ours(name, spec, dataset))
        seconds, wait = _bare(name, spec, dataset)
        bare.append(seconds)
        waits.append(wait)
    pace = [rows * (EPOCHS - 1) / median(seconds) for seconds in (ours, bare)]
    return {
        "model": name, "batch": batch, "ours_per_s": round(pace[0]), "bare_per_s": round(pace[1]),
        "ratio": round(pace[0] / pace[1], 3), "input_share": round(median(waits), 4),
        "ours_s": [round(each, 3) for each in ours], "bare_s": [round(each, 3) for each in bare],
    }  # fmt: skip


def _rows(n: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n, 30)).astype(np.float32)
    labels = (rng.random(n) < 0.15).astype(np.float32)
    return Rows(rng.integers(0, 1024, (n, 5)), dense, labels)


def _ours(name: str, spec: ModelSpec, dataset: Dataset) -> float:
    """Seconds of all epochs but the first."""
    moments: list[float] = []
    fit(name, spec, TrainingData(dataset, spec), lambda *_: moments.append(time.process_time()))
    return moments[-1] - moments[0]


def _bare(name: str, spec: ModelSpec, dataset: Dataset) -> tuple[float, float]:
    """The same for the loop of PyTorch's tutorial, and the share of it that waits for batches."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    data = TrainingData(dataset, spec)
    module = CtrModule(build_model(name, spec, dataset.seen(spec)), spec)
    optimiser = module.configure_optimizers()
    module.model.train()
    waited = Waited()
    start = 0.0
    for epoch in range(EPOCHS):
        if epoch == 1:
            start, waited.seconds = time.process_time(), 0.0
        for ids, dense, labels in waited.over(data.train_dataloader()):
            optimiser.zero_grad()
            binary_cross_entropy_with_logits(module.model(ids, dense), labels).backward()
            optimiser.step()
    seconds = time.process_time() - start
    torch.set_num_threads(threads)
    return seconds, waited.seconds / seconds


class Waited:
    """How long batches were waited for."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches."""
        source = iter(batches)
        while True:
            start = time.process_time()
            batch = next(source, None)
            self.seconds += time.process_time() - start
            if batch is None:
                return
            yield batch


if __name__ == "__main__":
    main()
