"""`headrace bench models`: the zoo on real and on generated rows, beside the truth."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from deltalake import DeltaTable
from torch import nn

from dagster_project.quiet import quiet
from data_contracts.delong import auc_difference, auc_interval
from data_contracts.evidence import Estimate, bootstrap, calibration_error, log_loss
from data_contracts.lake import Lake
from data_contracts.model_spec import ModelSpec
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.world.log import write_world
from data_contracts.world.parameters import Parameters
from tests.benchmarks.features import size
from tests.benchmarks.machine import machine
from tests.benchmarks.tables import markdown
from tests.benchmarks.training_sets import import_training_set
from training.batches import Rows
from training.data import Dataset, TrainingData, read_dataset
from training.evaluate import predict, read_held
from training.fit import fit
from training.models.linear import Constant
from training.models.names import MODELS, TREES, TWO_TOWER
from training.recall import with_recall
from training.retrieval import Catalogue

HERE = Path(__file__).parent
DESKDROP = HERE.parents[1] / "tests/usecases/deskdrop"
COLUMNS = (
    "data", "rows", "model", "auc", "auc_interval", "above_lightgbm", "better", "log_loss",
    "log_loss_interval", "ece", "gain_share", "epochs", "seconds",
)  # fmt: skip
RECALL_COLUMNS = ("data", "clicks", "items", "model", "metric", "value", "interval")


@dataclass(frozen=True)
class Task:
    """Rows to fit and to judge on."""

    name: str
    spec: ModelSpec
    dataset: Dataset
    retrieval: tuple[UseCase, Lake] | None
    """Whose items two towers are asked for; None where only rows are scored."""
    users: np.ndarray | None
    """Whose the test rows are; intervals are over them."""
    truth: np.ndarray | None = None
    """float64[test rows]: the true probabilities, where they are known."""


def main() -> None:
    """Fit, judge, print, and write one JSON file per kind of data."""
    options = _options()
    quiet()
    options.out.mkdir(parents=True, exist_ok=True)
    rows, found_again = list[dict[str, Any]](), list[dict[str, Any]]()
    for data in options.data:
        kept = options.out / f"models-{data}.json"
        result: dict[str, Any] = {"part": "models", "machine": machine(), "rows": [], "recall": []}
        with tempfile.TemporaryDirectory(dir=options.work, prefix="headrace-bench-") as place:
            for task in TASKS[data](Path(place), options):
                for row, found in judge(task, options.models):
                    result["rows"].append(row)
                    result["recall"] += found
                    kept.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
                    print(f"{row['data']} {row['model']}: {row['auc']}", file=sys.stderr)
        rows += result["rows"]
        found_again += result["recall"]
        print(f"written: {kept}", file=sys.stderr, flush=True)
    print(markdown(COLUMNS, rows))
    if found_again:
        print(f"\n{markdown(RECALL_COLUMNS, found_again)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="headrace bench models", description=__doc__)
    parser.add_argument("--models", type=_named(MODELS), default=list(MODELS))
    parser.add_argument("--data", type=_named(tuple(TASKS)), default=list(TASKS))
    parser.add_argument("--events", type=size, default=size("200k"), help="Of the world's log.")
    parser.add_argument("--deskdrop", type=Path, help="The Deskdrop log.")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    return parser.parse_args()


def _named(known: tuple[str, ...]) -> Any:
    def read(text: str) -> list[str]:
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown}: choose from {', '.join(known)}")
        return text.split(",")

    return read


def obd(home: Path, options: argparse.Namespace) -> Iterator[Task]:
    """The embedded sample of the Open Bandit Dataset."""
    log = load_use_case("clicks").log
    assert log is not None
    use_case, lake, dataset, users, _ = _prepared("clicks", home, log)
    yield Task("OBD sample", use_case.model, dataset, (use_case, lake), users)


def deskdrop(home: Path, options: argparse.Namespace) -> Iterator[Task]:
    """Deskdrop's log, which is not part of the project."""
    log: Path | None = options.deskdrop
    if log is not None and not log.exists():
        sys.exit(f"headrace: {log}: no such log: name a folder that holds it")
    if log is None:
        print("deskdrop: left out: name its log with --deskdrop", file=sys.stderr)
        return
    use_case, lake, dataset, users, _ = _prepared(str(DESKDROP), home, log)
    yield Task("deskdrop", use_case.model, dataset, (use_case, lake), users)


def world(home: Path, options: argparse.Namespace) -> Iterator[Task]:
    """A simulated log, with the request's own numbers only and with the features of windows."""
    log = home / "log"
    write_world(Parameters(options.events), log, lambda _: None)
    use_case, lake, dataset, users, ids = _prepared("world", home, log)
    with (log / "truth/impressions.jsonl").open() as lines:
        true = {row["event_id"]: row["p_true"] for row in map(json.loads, lines)}
    truth = np.array([true[event] for event in ids])
    static = without_windows(use_case, dataset)
    yield Task("world, static", use_case.model, static, None, users, truth)
    yield Task("world, windows", use_case.model, dataset, (use_case, lake), users, truth)


TASKS = {"obd": obd, "deskdrop": deskdrop, "world": world}


def _prepared(
    reference: str, home: Path, log: Path
) -> tuple[UseCase, Lake, Dataset, np.ndarray | None, list[str]]:
    """Import a log and read its training set, with users and ids of its test rows in order."""
    use_case = load_use_case(reference)
    lake = Lake(home, use_case.name)
    import_training_set(use_case, lake, log)
    table = DeltaTable(lake.training_set).to_pyarrow_table(columns=["q", "event_id", "split"])
    table = table.filter(np.asarray(table["split"]) == "test")
    ordered = table.sort_by([("q", "ascending"), ("event_id", "ascending")])
    dataset = read_dataset(use_case, lake)
    held = read_held(use_case, lake, dataset.delta_version, dataset.splits["test"].labels)
    return use_case, lake, dataset, held.users, ordered["event_id"].to_pylist()


def without_windows(use_case: UseCase, dataset: Dataset) -> Dataset:
    """The rows with the request's own numbers only."""
    features = len(use_case.feature_names)
    splits = {
        name: Rows(rows.ids, np.ascontiguousarray(rows.dense[:, features:]), rows.labels)
        for name, rows in dataset.splits.items()
    }
    item = tuple(column - features for column in dataset.item if column >= features)
    return replace(dataset, splits=splits, item=item)


def judge(task: Task, models: list[str]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """A row per model, the trees first: its figures with 95 % intervals, its share of the gain that
    the truth has over the constant, and whether the trees' AUC is above or below on the same rows.
    Beside it, of two towers, how often they find what was clicked.
    """
    test = task.dataset.splits["test"]
    none = log_loss(test.labels, predict(Constant(task.dataset.seen(task.spec)), test))
    best = None if task.truth is None else log_loss(test.labels, task.truth)
    if task.truth is not None:
        yield _row(task, "truth", task.truth, None) | {"gain_share": 1.0}, []
    trees: np.ndarray | None = None
    for name in sorted(models, key=lambda name: name != TREES):
        start = time.perf_counter()
        fitted = fit(name, task.spec, TrainingData(task.dataset, task.spec))
        seconds = time.perf_counter() - start
        scores = predict(fitted.model, test)
        row = _row(task, name, scores, trees)
        if name == TREES:
            trees = scores
        loss = log_loss(test.labels, scores)
        share = None if best is None else round((none - loss) / (none - best), 3)
        epochs = len(fitted.curve) - 1
        found = _recall(task, fitted.model) if name == TWO_TOWER else []
        yield row | {"gain_share": share, "epochs": epochs, "seconds": round(seconds, 1)}, found


def _recall(task: Task, model: nn.Module) -> list[dict[str, Any]]:
    """A row per metric of `training.recall`; none where the model gives no item a vector."""
    if task.retrieval is None:
        return []
    use_case, lake = task.retrieval
    metrics, why = with_recall({}, use_case, lake, task.dataset, model, task.users)
    if why:
        print(f"{task.name}: no recall: {why}", file=sys.stderr)
        return []
    shown = Catalogue.read(use_case, lake, task.dataset).item
    before = np.unique(np.concatenate([shown["train"], shown["validation"]]))
    about = {
        "data": task.name,
        "clicks": int(task.dataset.splits["test"].labels.sum()),
        "items": int((before >= 0).sum()),
    }
    return [
        about | {"model": name, "metric": metric, "value": round(found.value, 4),
                 "interval": _ends(found, 4)}
        for name, each in metrics.items()
        for metric, found in each.items()
    ]  # fmt: skip


def _row(task: Task, name: str, scores: np.ndarray, trees: np.ndarray | None) -> dict[str, Any]:
    labels = task.dataset.splits["test"].labels
    area = auc_interval(labels, scores, users=task.users)
    loss = bootstrap(log_loss, labels, scores, users=task.users)
    gap = None if trees is None else auc_difference(labels, scores, trees, users=task.users)
    return {
        "data": task.name,
        "rows": len(labels),
        "positives": int(labels.sum()),
        "model": name,
        "auc": round(area.value, 4),
        "auc_interval": _ends(area, 4),
        "above_lightgbm": gap and _ends(gap, 4),
        "better": gap and _better(name, gap),
        "log_loss": round(loss.value, 5),
        "log_loss_interval": _ends(loss, 5),
        "ece": round(calibration_error(labels, scores), 4),
    }


def _ends(found: Estimate, digits: int) -> list[float]:
    return [round(found.low, digits), round(found.high, digits)]


def _better(name: str, gap: Estimate) -> str:
    return TREES if gap.high < 0 else name if gap.low > 0 else "neither"


if __name__ == "__main__":
    main()
