"""Variants of a registered version: measured beside its own graph, judged and kept."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from data_contracts.bundle import Manifest, logit_gap, open_bundle, seal
from data_contracts.declared_inputs import differing_input, inputs_of
from data_contracts.evidence import (
    calibration_error,
    effective_users,
    log_loss,
    metric_difference,
    paired_difference,
)
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from data_contracts.version_registry import Version
from training.batches import Rows, evenly, joined
from training.data import Dataset, read_dataset
from training.offers import LEAST_ROWS, LEAST_RUNS, Figures, pick, refusal
from training.progress import OnProgress, silent
from training.registry import Registry
from training.variant_graphs import Sample
from training.variant_process import SIZES, Job
from training.variant_runs import OWN, VARIANTS, Made, make, run_in_turn

CALIBRATION_ROWS = 2048
MOST_ROWS = 50_000
"""Held-out rows that are scored, at even distances where there are more."""


@dataclass(frozen=True)
class Trials:
    """What is made and how long it is measured."""

    names: tuple[str, ...] = VARIANTS
    budget_ms: float | None = None
    """p99 at 21 rows; the use case's `max_latency_ms` where None."""
    runs: int = LEAST_RUNS
    """Of each variant, in turn; with fewer none that saves time is offered."""
    calls: int = 200
    """Of each of the five rounds at each size in a run."""
    least_rows: int = LEAST_ROWS
    """Held-out rows below which nothing is offered."""

    def __post_init__(self) -> None:
        if unknown := set(self.names) - set(VARIANTS):
            raise ValueError(f"variants {sorted(unknown)}: choose from {', '.join(VARIANTS)}")


def measure_variants(
    use_case: UseCase,
    lake: Lake,
    version: Version,
    trials: Trials = Trials(),
    report: OnProgress = silent,
) -> dict[str, Any]:
    """Make, measure and judge the variants of a version; those offered are kept beside its bundle.

    JSON-ready: a row per variant, `fp32` first, and which one the latency budget picks. Raises
    BundleRefused for a bundle that is not what was registered, ValueError where the training set is
    of other inputs than the version's.
    """
    registry, gates = Registry(lake), use_case.declared.gates
    budget = gates.max_latency_ms if trials.budget_ms is None else trials.budget_ms
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        bundle = registry.download(version, home)
        manifest = open_bundle(bundle, version.digest)
        check_declared(use_case, manifest)
        report("read", 0.0)
        dataset = read_dataset(use_case, lake)
        held, users = _held_out(dataset, trials.least_rows)
        np.savez(home / "rows.npz", ids=held.ids, dense=held.dense)
        first = Job(
            "onnx", str(bundle), str(home / "rows.npz"), str(home / f"{OWN}.npy"), trials.calls,
            str(use_case.folder), str(bundle), version.digest,
        )  # fmt: skip
        report("make", 0.0)
        made, reasons = make(trials.names, first, _sample(use_case, dataset), home)
        reasons |= run_in_turn(made, trials.runs, report)
        scores = {name: np.load(each.job.scores) for name, each in made.items()}
        own = scores[OWN][0]
        figures = {
            name: _figures(each, scores[name], own, held.labels, users, gates.confidence)
            for name, each in made.items()
        }
        offered: list[str] = []
        for name in list(made)[1:]:
            margins = gates.variant_margin, gates.variant_ece_margin
            why = refusal(figures[name], figures[OWN], *margins, trials.least_rows)
            if why is None:
                offered.append(name)
            else:
                reasons[name] = why
        report("keep", 0.0)
        digests = {
            name: _seal(made[name].folder, manifest, name, figures[name]) for name in offered
        }
        kept = {name: (made[name].folder, digest) for name, digest in digests.items()}
        registry.keep_variants(version, kept, trials.names)
        rows = {
            name: _row(each, figures[name], scores[name][0], held.labels)
            for name, each in made.items()
        }
    return {
        "name": version.name,
        "version": version.version,
        "rows": len(held.labels),
        "sizes": list(SIZES),
        "runs": trials.runs,
        "budget_ms": budget,
        "margin": gates.variant_margin,
        "ece_margin": gates.variant_ece_margin,
        "same_training_set": dataset.digest == registry.dataset(version),
        "picked": pick({name: figures[name] for name in (OWN, *offered)}, budget),
        "variants": [
            {"name": name, "offered": name in offered, "digest": digests.get(name),
             "reason": reasons.get(name), **rows.get(name, {})}
            for name in (OWN, *trials.names)
        ],
    }  # fmt: skip


def check_declared(use_case: UseCase, manifest: Manifest) -> None:
    """ValueError where a bundle takes other inputs than its use case declares now."""
    if differ := differing_input(manifest, inputs_of(use_case)):
        raise ValueError(
            f"model {manifest.use_case}: the version takes other inputs ({differ.kind}) than its "
            "use case declares now: name a version of today's declaration"
        )


def _held_out(dataset: Dataset, least: int) -> tuple[Rows, np.ndarray | None]:
    """The test rows, with the validation rows before them where they are fewer than `least`, and
    their users."""
    enough = len(dataset.splits["test"].labels) >= least
    splits = ("test",) if enough else ("validation", "test")
    rows = joined([dataset.splits[split] for split in splits])
    if len(rows.labels) < max(SIZES):
        raise ValueError(f"{len(rows.labels)} held-out rows: needs {max(SIZES)}: ingest more")
    at = evenly(len(rows.labels), MOST_ROWS)
    users = [dataset.users[split] for split in splits if split in dataset.users]
    return rows.take(at), np.concatenate(users)[at] if users else None


def _sample(use_case: UseCase, dataset: Dataset) -> Sample:
    train = dataset.splits["train"]
    some = train.take(evenly(len(train.labels), CALIBRATION_ROWS))
    return Sample(some.ids, some.dense, dataset.seen(use_case.model).counts)


def _figures(
    each: Made,
    scores: np.ndarray,
    own: np.ndarray,
    labels: np.ndarray,
    users: np.ndarray | None,
    confidence: float,
) -> Figures:
    together, alone = scores
    late = [run["p99_ms"][SIZES.index(21)] for run in each.runs]
    return Figures(
        saves=each.saves,
        p99_ms=min(late),
        runs=len(late),
        swing=max(late) / min(late),
        bytes=each.bytes,
        above=paired_difference(labels, together, own, confidence, users=users),
        ece_above=metric_difference(
            calibration_error, labels, together, own, confidence, users=users
        ),
        users=effective_users(len(labels), users),
        alone=logit_gap(alone, together),
        storable=each.job.kind == "onnx",
    )


def _seal(folder: Path, manifest: Manifest, name: str, figures: Figures) -> str:
    """Seal an offered variant as a bundle of the same version; its digest."""
    said = {key: value for key, value in vars(manifest).items() if key not in ("format", "members")}
    above, ece_above = figures.above.as_dict(), figures.ece_above.as_dict()
    metrics = {name: {"log_loss_above_fp32": above, "ece_above_fp32": ece_above}}
    return seal(folder, {**said, "metrics": metrics}).digest()


def _row(each: Made, figures: Figures, scores: np.ndarray, labels: np.ndarray) -> Mapping[str, Any]:
    def over_runs(name: str) -> list[dict[str, float]]:
        sizes = zip(*(run[name] for run in each.runs), strict=True)
        return [{"median": median(c), "low": min(c), "high": max(c)} for c in sizes]

    return {
        "p50_ms": over_runs("p50_ms"),
        "p99_ms": over_runs("p99_ms"),
        "rss_mib": median(run["rss_mib"] for run in each.runs),
        "bytes": figures.bytes,
        "log_loss": log_loss(labels, scores),
        "above_fp32": figures.above.as_dict(),
        "ece": calibration_error(labels, scores),
        "ece_above_fp32": figures.ece_above.as_dict(),
        "alone": figures.alone,
    }
