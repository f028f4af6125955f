"""The other forms of a graph, each against the module from which the graph was made."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from data_contracts.bundle import GRAPH
from data_contracts.encoding import Categorical
from data_contracts.model_spec import ModelSpec
from training.batches import Rows
from training.data import Dataset, TrainingData
from training.engine import Engine
from training.evaluate import predict
from training.export import write_graph
from training.fit import fit
from training.variant_graphs import FORMS, NotMade, Sample, tables

SPEC = ModelSpec(
    categorical=(Categorical("item_id", 400, min_count=2), Categorical("device", 16)),
    hidden=(16,),
    learning_rate=2e-2,
    max_epochs=4,
)
FIRST = "inputs.embeddings.tables.0.table.weight"


@dataclass(frozen=True)
class Fitted:
    """A fitted module, its graph's folder, and the rows it was fitted on."""

    model: nn.Module
    folder: Path
    rows: Rows
    sample: Sample


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    rng = np.random.default_rng(4)
    ids = np.column_stack([rng.geometric(0.02, 6000) % 400, rng.integers(0, 16, 6000)])
    dense = rng.normal(size=(6000, 3)).astype(np.float32)
    p = 1 / (1 + np.exp(2 - ids[:, 0] % 5 / 2 - dense[:, 0]))
    rows = Rows(ids, dense, (rng.random(6000) < p).astype(np.float32))
    dataset = Dataset({"train": rows, "validation": rows, "test": rows}, 0, "")
    model = fit("dcn_v2", SPEC, TrainingData(dataset, SPEC)).model
    folder = tmp_path_factory.mktemp("graph")
    write_graph(model, 2, 3, folder / GRAPH)
    return Fitted(model, folder, rows, Sample(ids[:512], dense[:512], dataset.seen(SPEC).counts))


def scored(fitted: Fitted, name: str, folder: Path) -> np.ndarray:
    FORMS[name].write(fitted.folder / GRAPH, folder / GRAPH, fitted.sample)
    return Engine(folder).score(fitted.rows.ids, fitted.rows.dense)


def logit_gap(one: np.ndarray, other: np.ndarray) -> float:
    p, q = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(np.abs(np.log(p / (1 - p)) - np.log(q / (1 - q))).max())


@pytest.mark.parametrize(
    ("name", "gap", "share"),
    [("fp16_embeddings", 1e-4, 0.9), ("int8_static", 0.01, 0.7), ("int8_dynamic", 0.01, 0.7)],
)
def test_a_form_of_fewer_bits_is_near_the_module_and_smaller(
    fitted: Fitted, tmp_path: Path, name: str, gap: float, share: float
) -> None:
    scores = scored(fitted, name, tmp_path)
    assert 0 < np.abs(scores - predict(fitted.model, fitted.rows)).mean() < gap
    sizes = [(folder / GRAPH).stat().st_size for folder in (tmp_path, fitted.folder)]
    assert sizes[0] < share * sizes[1]


def test_only_the_dynamic_form_scores_a_row_by_its_neighbours(
    fitted: Fitted, tmp_path: Path
) -> None:
    moved = {}
    for name in ("int8_dynamic", "int8_static", "fp16_embeddings"):
        (folder := tmp_path / name).mkdir()
        together, rows = scored(fitted, name, folder)[:64], fitted.rows
        engine = Engine(folder)
        alone = [engine.score(rows.ids[i : i + 1], rows.dense[i : i + 1])[0] for i in range(64)]
        moved[name] = logit_gap(np.array(alone), together) > 1e-4
    assert {"int8_dynamic": True, "int8_static": False, "fp16_embeddings": False} == moved


def test_rows_of_small_norm_become_zeros_and_no_other_changes(
    fitted: Fitted, tmp_path: Path
) -> None:
    def zeroed(weight: torch.Tensor, pruned: np.ndarray) -> None:
        weight[torch.from_numpy(pruned)] = 0.0

    norms = np.linalg.norm(fitted.model.state_dict()[FIRST].numpy(), axis=1)
    check_pruned(fitted, "pruned_by_magnitude", tmp_path, norms, zeroed)


def test_rows_that_few_rows_held_become_the_one_out_of_vocabulary(
    fitted: Fitted, tmp_path: Path
) -> None:
    def shared(weight: torch.Tensor, pruned: np.ndarray) -> None:
        weight[torch.from_numpy(pruned)] = weight[-1].clone()

    counts = np.append(fitted.sample.counts[0], 0)
    check_pruned(fitted, "pruned_by_frequency", tmp_path, counts, shared)


def check_pruned(
    fitted: Fitted,
    name: str,
    folder: Path,
    keys: np.ndarray,
    change: Callable[[torch.Tensor, np.ndarray], None],
) -> None:
    """The form scores as the module whose rows with the smaller half of the keys are changed."""
    scores = scored(fitted, name, folder)
    (table, _) = tables(onnx.load(fitted.folder / GRAPH))
    used = np.unique(table.row[table.row != 400])
    pruned = used[np.argsort(keys[used], kind="stable")[: len(used) // 2]]
    model = deepcopy(fitted.model)
    with torch.no_grad():
        change(model.get_parameter(FIRST), pruned)
    assert logit_gap(scores, predict(model, fitted.rows)) < 1e-4
    assert logit_gap(scores, predict(fitted.model, fitted.rows)) > 1e-3
    (smaller, small) = tables(onnx.load(folder / GRAPH))
    assert (len(used) - len(pruned) + 1 + (name == "pruned_by_magnitude"), 17) == (
        len(smaller.table),
        len(small.table),
    )


def test_a_graph_without_what_a_form_changes_says_so(tmp_path: Path) -> None:
    rows = Rows(np.ones((40, 1), np.int64), np.ones((40, 1), np.float32), np.ones(40, np.float32))
    spec = ModelSpec(categorical=(Categorical("device", 16),))
    dataset = Dataset({"train": rows, "validation": rows, "test": rows}, 0, "")
    trees = fit("lightgbm", spec, TrainingData(dataset, spec)).model
    write_graph(trees, 1, 1, tmp_path / GRAPH)
    sample = Sample(rows.ids, rows.dense, dataset.seen(spec).counts)
    why = {}
    for name, form in FORMS.items():
        with pytest.raises(NotMade) as told:
            form.write(tmp_path / GRAPH, tmp_path / "other.onnx", sample)
        why[name] = str(told.value)
    product = "its graph holds none of Gather, Gemm, MatMul"
    large = "its graph holds no embedding of 256 rows or more"
    assert {
        "int8_dynamic": product,
        "int8_static": product,
        "fp16_embeddings": "its graph holds no embeddings",
        "pruned_by_magnitude": large,
        "pruned_by_frequency": large,
    } == why
