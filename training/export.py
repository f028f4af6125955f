"""From a fitted model to a sealed bundle: ONNX graph, golden rows, manifest; nothing is pickled."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_contracts.built_from import BuiltFrom
from data_contracts.bundle import (
    GRAPH,
    TOWERS,
    Manifest,
    check_golden,
    check_inputs,
    golden_rows,
    seal,
    write_golden,
)
from data_contracts.declared_inputs import inputs_of
from data_contracts.use_case import UseCase
from training.batches import Rows, evenly
from training.chosen import Chosen, write_chosen
from training.engine import Engine
from training.evaluate import predict
from training.models.calibrated import Calibrated
from training.models.dots import TwoTower
from training.models.names import TWO_TOWER
from training.quiet import quiet
from training.trees import Trees
from training.warm import write_weights

GOLDEN_ROWS = 64
BATCHES = (1, 21, 256)
"""Batch sizes at which the graph must agree with the model it came from."""
_REMARKS = (
    "torch.onnx._internal.exporter._registration",
    logging.ERROR,
    r".*isinstance\(treespec, LeafSpec\)",
    ".*axis name: rows will not be used",
)
"""The exporter's, on torchvision, its tree API and the axis of two inputs."""


class Scorer(nn.Module):
    """A model with its sigmoid: the graph answers probabilities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        # ONNX Runtime's own Sigmoid is exact to about 1e-8 absolute only: at p = 2e-4 the logit
        # is off by 1.5e-4. Its Exp keeps the relative precision.
        return 1 / (1 + torch.exp(-self.model(ids, dense)))


class Vectors(nn.Module):
    """Two towers whose inner product is the model's logit: the item's vector ends with what does
    not depend on the row, the user's with a 1."""

    def __init__(self, model: TwoTower, shift: Tensor | float = 0.0) -> None:
        super().__init__()
        self.model, self.shift = model, shift

    def forward(self, ids: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        user, item = self.model.vectors(ids, dense)
        base = (self.model.base + self.shift).expand(ids.shape[0], 1)
        return torch.cat([user, torch.ones_like(base)], 1), torch.cat([item, base], 1)


def export_bundle(
    use_case: UseCase,
    name: str,
    model: nn.Module,
    rows: Rows,
    metrics: Mapping[str, Any],
    folder: Path,
    built: BuiltFrom,
    chosen: Chosen,
    fitted_until: int,
) -> Manifest:
    """Write and seal the bundle of `model` in the empty `folder`.

    `rows` are real rows, from which the golden ones are taken at even distances; `built` is the
    origin of the training set that the model was fit on, and holds every feature it takes; `chosen`
    is what it was fitted by, of which trees keep nothing; `fitted_until` (µs) is the newest query
    time of the rows that it knows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    widths = rows.ids.shape[1], rows.dense.shape[1]
    write_graph(model, *widths, folder / GRAPH)
    if not isinstance(model, Trees):
        write_weights(model, folder)
        write_chosen(chosen, folder)
    if name == TWO_TOWER:
        write_towers(model, *widths, folder / TOWERS)
    golden = rows.take(evenly(len(rows.labels), GOLDEN_ROWS))
    write_golden(folder, golden.ids, golden.dense, predict(model, golden))
    inputs = inputs_of(use_case)
    return seal(
        folder,
        {
            "use_case": use_case.name,
            "model": name,
            "features": inputs.features,
            "categorical": inputs.categorical,
            "numeric": inputs.numeric,
            "feature_digests": {name: built.features[name] for name in inputs.features},
            "contract_version": use_case.contract.version,
            "contract_digest": built.declared["contract"],
            "golden_rows": len(golden.ids),
            "metrics": metrics,
            "fitted_until": fitted_until,
        },
    )


def verify_graph(manifest: Manifest, engine: Engine, model: nn.Module, rows: Rows) -> None:
    """Raise BundleRefused when the graph and its model differ at any of the batch sizes."""
    sample = rows.take(evenly(len(rows.labels), max(BATCHES)))
    check_inputs(manifest, sample.ids, sample.dense)
    expected = predict(model, sample)
    for size in BATCHES:
        parts = [
            engine.score(sample.ids[at : at + size], sample.dense[at : at + size])
            for at in range(0, len(sample.ids), size)
        ]
        check_golden(expected, np.concatenate(parts))


def verify_golden(folder: Path, manifest: Manifest, engine: Engine) -> int:
    """Score a bundle's golden rows; their number, or BundleRefused when a logit moved."""
    ids, dense, expected = golden_rows(folder, manifest)
    check_golden(expected, engine.score(ids, dense))
    return len(ids)


def write_graph(model: nn.Module, ids: int, dense: int, path: Path) -> None:
    """The ONNX graph of a model over `ids` and `dense` columns."""
    if isinstance(model, Trees):
        model.write(ids, dense, path)
    else:
        _write(Scorer(model), ids, dense, ("score",), path)


def write_towers(model: nn.Module, ids: int, dense: int, path: Path) -> None:
    """The ONNX graph of a two_tower's `Vectors`; TypeError of another model."""
    bare, shift = (model.model, model.shift) if isinstance(model, Calibrated) else (model, 0.0)
    if not isinstance(bare, TwoTower):
        raise TypeError(f"{type(bare).__name__} has no towers: fit {TWO_TOWER}")
    _write(Vectors(bare, shift), ids, dense, ("user", "item"), path)


def _write(module: nn.Module, ids: int, dense: int, outputs: tuple[str, ...], path: Path) -> None:
    """Traced over two empty rows; source paths that the exporter records are taken out."""
    sample = (torch.zeros((2, ids), dtype=torch.int64), torch.zeros((2, dense)))
    with quiet(*_REMARKS):
        program = torch.onnx.export(
            module.eval(),
            sample,
            dynamo=True,
            input_names=["ids", "dense"],
            output_names=list(outputs),
            dynamic_shapes=({0: "rows"}, {0: "rows"}),
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.clear()
    for node in program.model.graph:
        node.metadata_props.clear()
    program.save(path, external_data=False)
