"""What a training leaves in its run: choices, curves, figures and pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.bundle import Manifest
from data_contracts.model_spec import ModelSpec
from training.basis import Basis
from training.evaluated import Evaluated
from training.fitted import Fitted
from training.models.names import TREES
from training.plots import draw, draw_slices
from training.run_record import RunRecord
from training.trees import MOST_ROUNDS, PARAMETERS, PATIENCE


def recorded(
    basis: Basis,
    fitted: Mapping[str, Fitted],
    evaluated: Evaluated,
    manifest: Manifest,
    began_ms: int,
    notes: Sequence[str],
) -> RunRecord:
    """The record of the run whose bundle is that of `manifest`."""
    dataset, best = basis.dataset, fitted[basis.model].best
    return RunRecord(
        manifest=manifest,
        began_ms=began_ms,
        params={**_params(basis.model, basis.chosen.spec), "best_epoch": best.epoch},
        metrics=evaluated.metrics,
        curves=_curves(fitted),
        training_set=basis.lake.training_set.resolve(),
        delta_version=dataset.delta_version,
        dataset_digest=dataset.digest,
        made_of=dataset.built_from.made_of,
        simulated=basis.use_case.declared.simulated,
        continued_from=basis.continued_from,
        notes=notes,
    )


def write_evaluation(labels: np.ndarray, evaluated: Evaluated, folder: Path) -> None:
    """Write `evaluation.json` and the pictures of the test rows with these labels (float[n])."""
    draw(labels, evaluated.scores, folder)
    draw_slices(evaluated.slices, folder)
    (folder / "evaluation.json").write_text(json.dumps(evaluated.as_dict(), indent=1))


def _params(model: str, spec: ModelSpec) -> dict[str, Any]:
    """What the fit of `model` was told."""
    if model == TREES:
        told = {**PARAMETERS, "seed": spec.seed, "rounds": MOST_ROUNDS, "patience": PATIENCE}
    else:
        told = asdict(spec)
        told.pop("name")
    return {"model": model, **told}


def _curves(fitted: Mapping[str, Fitted]) -> dict[str, list[float]]:
    return {
        f"{name}.{split}": [getattr(epoch, split) for epoch in each.curve]
        for name, each in fitted.items()
        for split in ("train", "validation")
    }
