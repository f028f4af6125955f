"""Training: from the training set to a judged and registered model version."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from data_contracts.evidence import Estimate
from data_contracts.gates import Decision
from data_contracts.lake import Lake
from data_contracts.results import read_result
from data_contracts.use_case import UseCase
from training.data import TrainingData, read_dataset
from training.engine import Engine
from training.evaluate import (
    Slices,
    evaluate_all,
    evaluate_slices,
    plain,
    predict,
    read_held,
    worst_slice,
)
from training.export import export_bundle, verify_graph
from training.fit import fit
from training.fitted import Fitted, OnEpoch
from training.models.linear import Constant
from training.plots import draw
from training.promotion import decide
from training.registry import CERTIFICATE, CHALLENGER, CHAMPION, Registry, Trial

BASELINE = "logistic"

OnProgress = Callable[[str, float], None]
"""(what is being done, share of it that is done)"""


@dataclass(frozen=True)
class TrainedVersion:
    """A registered version, how good it is and what was decided about it."""

    name: str
    version: str
    run_id: str
    model: str
    decision: Decision
    metrics: Mapping[str, Mapping[str, Estimate]]
    """Model, baseline and constant -> `training.evaluate.evaluate_all` on the test split."""
    slices: Slices
    """The model's metrics on each part of the declared slices."""
    worst_slice: str | None
    bundle_digest: str
    promoted: bool
    alias: str
    seconds: float


def train(
    use_case: UseCase,
    lake: Lake,
    model: str = "dcn_v2",
    on_progress: OnProgress | None = None,
) -> TrainedVersion:
    """Fit `model` and the baselines, judge, register; champion where the decision promotes it.

    Any other version is registered all the same, under the alias `challenger`, and the champion
    stays. Raises NoTrainingData, or ValueError for a model that is not in the zoo.
    """
    start = time.perf_counter()
    report = on_progress or _silent
    report("read", 0.0)
    dataset = read_dataset(use_case, lake)
    spec = use_case.model
    test = dataset.splits["test"]
    data = TrainingData(dataset, spec.batch_size, spec.seed)
    fitted: dict[str, Fitted] = {
        name: fit(name, spec, data, _epochs(report, name))
        for name in dict.fromkeys((model, BASELINE))
    }
    report("evaluate", 0.0)
    scores = {name: predict(each.model, test) for name, each in fitted.items()}
    scores["constant"] = predict(Constant(dataset.seen(spec)), test)
    confidence, judging = use_case.declared.gates.confidence, use_case.declared.evaluation
    held = read_held(use_case, lake, dataset.delta_version, len(test.labels))
    metrics = evaluate_all(test.labels, scores, confidence, held, judging.top)
    slices = evaluate_slices(test.labels, scores[model], held, confidence)
    worst = worst_slice(slices, judging.least)
    registry = Registry(lake)
    with tempfile.TemporaryDirectory() as home:
        bundle, record = Path(home, "bundle"), Path(home, "record")
        report("export", 0.0)
        chosen = fitted[model]
        manifest = export_bundle(use_case, model, chosen.model, test, plain(metrics), bundle)
        verify_graph(manifest, Engine(bundle), chosen.model, test)
        report("judge", 0.0)
        baselines = {name: each for name, each in scores.items() if name != model}
        decision = decide(use_case, registry, bundle, manifest, test, baselines, held.parts)
        report("register", 0.0)
        draw(test.labels, scores, record)
        judged = {"models": plain(metrics), "slices": plain(slices), "worst_slice": worst}
        (record / "evaluation.json").write_text(json.dumps(judged, indent=1))
        trial = Trial(
            manifest=manifest,
            params={**asdict(spec), "model": model, "best_epoch": chosen.best.epoch},
            metrics=metrics,
            curves=_curves(fitted),
            training_set=lake.training_set.resolve(),
            delta_version=dataset.delta_version,
            dataset_digest=dataset.digest,
        )
        run_id = registry.log_run(trial, record, bundle)
    name, digest = use_case.name, manifest.digest()
    version = registry.register(name, run_id, digest, decision)
    alias = CHAMPION if decision.promotes else CHALLENGER
    registry.set_alias(name, alias, version)
    if (lake.reports / CERTIFICATE).exists():
        certificate = read_result(lake, CERTIFICATE.removesuffix(".json"))
        registry.attach_certificate(registry.version(name, version), certificate)
    report("register", 1.0)
    return TrainedVersion(
        name=name,
        version=version,
        run_id=run_id,
        model=model,
        decision=decision,
        metrics=metrics,
        slices=slices,
        worst_slice=worst,
        bundle_digest=digest,
        promoted=decision.promotes,
        alias=alias,
        seconds=time.perf_counter() - start,
    )


def _curves(fitted: Mapping[str, Fitted]) -> dict[str, list[float]]:
    return {
        f"{name}.{split}": [getattr(epoch, split) for epoch in each.curve]
        for name, each in fitted.items()
        for split in ("train", "validation")
    }


def _epochs(report: OnProgress, name: str) -> OnEpoch:
    report(f"fit {name}", 0.0)
    return lambda done, most: report(f"fit {name}", done / most)


def _silent(_: str, __: float) -> None:
    pass
