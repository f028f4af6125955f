"""`headrace bench models`: the zoo on real and on generated rows, beside the truth."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from deltalake import DeltaTable

from dagster_project.quiet import quiet
from data_contracts.evidence import auc, bootstrap, log_loss
from data_contracts.lake import Lake
from data_contracts.model_spec import ModelSpec
from data_contracts.results import write_result
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.world.log import write_world
from data_contracts.world.parameters import Parameters
from spark_jobs.imports import import_log
from tests.benchmarks.features import size
from tests.benchmarks.machine import machine
from tests.benchmarks.tables import markdown
from tests.benchmarks.training_sets import write_training_set
from training.batches import Rows
from training.data import Dataset, TrainingData, read_dataset
from training.evaluate import predict
from training.fit import fit
from training.models.linear import Constant
from training.models.names import MODELS

HERE = Path(__file__).parent
DESKDROP = HERE.parents[1] / "tests/usecases/deskdrop"
LOG = HERE.parents[2] / "shared/data/deskdrop"
COLUMNS = ("data", "model", "auc", "interval", "log_loss", "gain_share", "epochs", "seconds")


@dataclass(frozen=True)
class Task:
    """Rows to fit and to judge on."""

    name: str
    spec: ModelSpec
    dataset: Dataset
    truth: np.ndarray | None = None
    """float64[test rows]: the true probabilities, where they are known."""


def main() -> None:
    """Fit, judge, print and write."""
    options = _options()
    quiet()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "models.json"
    result: dict[str, Any] = {"part": "models", "machine": machine(), "rows": []}
    with tempfile.TemporaryDirectory(dir=options.work, prefix="headrace-bench-") as place:
        for task in tasks(Path(place), options):
            for row in judge(task, options.models):
                result["rows"].append(row)
                kept.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
                print(f"{row['data']} {row['model']}: {row['auc']}", file=sys.stderr, flush=True)
    print(markdown(COLUMNS, result["rows"]))
    print(f"written: {kept}", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="headrace bench models", description=__doc__)
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument("--events", type=size, default=size("200k"), help="Of the world's log.")
    parser.add_argument("--deskdrop", type=Path, default=LOG, help="The Deskdrop log, or none.")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    return parser.parse_args()


def tasks(home: Path, options: argparse.Namespace) -> Iterator[Task]:
    """Deskdrop where its log is, and the world with and without the features of windows."""
    if options.deskdrop.exists():
        use_case, dataset, _ = _prepared(str(DESKDROP), home, options.deskdrop)
        yield Task("deskdrop", use_case.model, dataset)
    world = home / "log"
    write_world(Parameters(options.events), world, lambda _: None)
    use_case, dataset, ids = _prepared("world", home, world)
    lines = (world / "truth/impressions.jsonl").open()
    with lines:
        true = {row["event_id"]: row["p_true"] for row in map(json.loads, lines)}
    truth = np.array([true[event] for event in ids])
    yield Task("world, static", use_case.model, without_windows(use_case, dataset), truth)
    yield Task("world, windows", use_case.model, dataset, truth)


def _prepared(reference: str, home: Path, log: Path) -> tuple[UseCase, Dataset, list[str]]:
    """Import a log and read its training set, with the ids of its test rows in their order."""
    use_case = load_use_case(reference)
    lake = Lake(home, use_case.name)
    imported = import_log(use_case, lake, log)
    held_out = imported.held_out(use_case.label.window)
    history = [day.stem for day in imported.days if day not in held_out]
    write_result(lake, "raw_log", {"history": history})
    write_training_set(use_case, lake)
    table = DeltaTable(lake.training_set).to_pyarrow_table(columns=["q", "event_id", "split"])
    table = table.filter(np.asarray(table["split"]) == "test")
    ordered = table.sort_by([("q", "ascending"), ("event_id", "ascending")])
    return use_case, read_dataset(use_case, lake), ordered["event_id"].to_pylist()


def without_windows(use_case: UseCase, dataset: Dataset) -> Dataset:
    """The rows with the request's own numbers only."""
    features = len(use_case.feature_names)
    splits = {
        name: Rows(rows.ids, np.ascontiguousarray(rows.dense[:, features:]), rows.labels)
        for name, rows in dataset.splits.items()
    }
    item = tuple(column - features for column in dataset.item if column >= features)
    return Dataset(splits, dataset.delta_version, dataset.digest, item)


def judge(task: Task, models: list[str]) -> Iterator[Mapping[str, Any]]:
    """A row per model: AUC with its 95 % interval, log loss, share of the achievable gain."""
    test = task.dataset.splits["test"]
    none = log_loss(test.labels, predict(Constant(task.dataset.seen(task.spec)), test))
    best = None if task.truth is None else log_loss(test.labels, task.truth)
    if task.truth is not None:
        yield _row(task, "truth", test.labels, task.truth, 1.0)
    for name in models:
        start = time.perf_counter()
        fitted = fit(name, task.spec, TrainingData(task.dataset, task.spec))
        seconds = time.perf_counter() - start
        scores = predict(fitted.model, test)
        loss = log_loss(test.labels, scores)
        share = None if best is None else (none - loss) / (none - best)
        row = _row(task, name, test.labels, scores, share)
        yield {**row, "epochs": len(fitted.curve) - 1, "seconds": round(seconds, 1)}


def _row(
    task: Task, name: str, labels: np.ndarray, scores: np.ndarray, share: float | None
) -> dict[str, Any]:
    found = bootstrap(auc, labels, scores)
    return {
        "data": task.name,
        "model": name,
        "auc": round(found.value, 4),
        "interval": [round(found.low, 4), round(found.high, 4)],
        "log_loss": round(log_loss(labels, scores), 5),
        "gain_share": None if share is None else round(share, 3),
        "rows": len(labels),
    }


if __name__ == "__main__":
    main()
