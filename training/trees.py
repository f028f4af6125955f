"""Gradient-boosted trees beside the zoo: LightGBM's only file, and their ONNX graph."""

import math
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from data_contracts.model_spec import ModelSpec
from training.batches import Rows
from training.data import TrainingData
from training.fitted import Epoch, Fitted, OnEpoch, better_untrained

MOST_ROUNDS = 5_000
"""Far beyond what a fit reaches: its validation rows end it."""
PATIENCE = 40
"""Rounds without a better validation log loss before training stops."""
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 20,
    "lambda_l2": 1.0,
    "boost_from_average": False,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


class Trees(nn.Module):
    """Boosted trees as a module, so that they are scored, judged and exported as the others are.

    The sum of the leaves is added to the base rate's logit. Ids are taken as numbers.
    """

    def __init__(self, booster: lightgbm.Booster, rounds: int, base: float) -> None:
        super().__init__()
        self.booster, self.rounds, self.base = booster, rounds, base

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        logits = np.full(len(ids), self.base)
        if self.rounds:
            inputs = _columns(ids.numpy(), dense.numpy())
            logits += self.booster.predict(inputs, raw_score=True, num_iteration=self.rounds)
        return torch.from_numpy(logits.astype(np.float32))

    def write(self, ids: int, dense: int, path: Path) -> None:
        """The ONNX graph over `ids` and `dense` columns: one TreeEnsembleRegressor, a sigmoid."""
        trees = self.booster.dump_model(num_iteration=max(self.rounds, 1))["tree_info"]
        ensemble = _ensemble(
            [tree["tree_structure"] for tree in trees[: self.rounds]], np.float32(self.base)
        )
        nodes = [
            helper.make_node("Cast", ["ids"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Concat", ["numbers", "dense"], ["inputs"], axis=1),
            helper.make_node(
                "TreeEnsembleRegressor", ["inputs"], ["sums"], domain="ai.onnx.ml", **ensemble
            ),
            helper.make_node("Squeeze", ["sums", "second"], ["logit"]),
            # Exp and not Sigmoid, as in `training/export.py`: it keeps small probabilities.
            helper.make_node("Neg", ["logit"], ["negative"]),
            helper.make_node("Exp", ["negative"], ["odds"]),
            helper.make_node("Add", ["odds", "one"], ["below"]),
            helper.make_node("Div", ["one", "below"], ["score"]),
        ]
        graph = helper.make_graph(
            nodes,
            "trees",
            [
                helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows", ids]),
                helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["rows", dense]),
            ],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
            [
                helper.make_tensor("second", TensorProto.INT64, [1], [1]),
                helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
            ],
        )
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.checker.check_model(model)
        onnx.save(model, path.as_posix())


def fit_trees(spec: ModelSpec, data: TrainingData, on_epoch: OnEpoch | None = None) -> Fitted:
    """Trees up to the best round by validation log loss; none where trees make things worse.

    The same data, seed and kind of machine give the same trees. Takes all rows in memory.
    """
    splits = data.dataset.splits
    rate = data.dataset.seen(spec).base_rate
    base = math.log(rate / (1 - rate))
    train = _lightgbm(splits["train"], base)
    validation = _lightgbm(splits["validation"], base, train)
    losses: dict[str, dict[str, list[float]]] = {}

    def tell(env: Any) -> None:
        if on_epoch:
            on_epoch(env.iteration + 1, MOST_ROUNDS)

    booster = lightgbm.train(
        {**PARAMETERS, "seed": spec.seed},
        train,
        MOST_ROUNDS,
        valid_sets=[train, validation],
        valid_names=["train", "validation"],
        callbacks=[
            lightgbm.record_evaluation(losses),
            tell,
            lightgbm.early_stopping(PATIENCE, verbose=False),
        ],
    )
    both = (losses[name]["binary_logloss"] for name in ("train", "validation"))
    labels = splits["validation"].labels
    share = float(labels.mean())
    start = Epoch(0, float("nan"), -share * math.log(rate) - (1 - share) * math.log(1 - rate))
    pairs = enumerate(zip(*both, strict=True), start=1)
    curve = (start, *(Epoch(number, *figures) for number, figures in pairs))
    best = min(curve[1:], key=lambda epoch: epoch.validation)
    model, none = Trees(booster, best.epoch, base), Trees(booster, 0, base)
    if better_untrained(model, none, data.dataset):
        return Fitted(none, curve, start)
    return Fitted(model, curve, best)


def _columns(ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
    return np.concatenate([ids.astype(np.float32), dense], axis=1)


def _lightgbm(
    rows: Rows, base: float, reference: lightgbm.Dataset | None = None
) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        _columns(rows.ids, rows.dense),
        rows.labels,
        init_score=np.full(len(rows.labels), base),
        reference=reference,
    )


def _ensemble(trees: list[dict[str, Any]], base: np.float32) -> dict[str, Any]:
    """The attributes of a TreeEnsembleRegressor."""
    node: dict[str, list[Any]] = {
        name: []
        for name in ("treeids", "nodeids", "featureids", "values", "modes",
                     "truenodeids", "falsenodeids", "missing_value_tracks_true")
    }  # fmt: skip
    target: dict[str, list[Any]] = {n: [] for n in ("treeids", "nodeids", "ids", "weights")}

    def visit(tree: int, at: int, part: dict[str, Any]) -> int:
        """Add a subtree whose root is node `at`; the number after its last node."""
        leaf, end = "leaf_value" in part, at + 1
        row = len(node["nodeids"])
        values = (
            (tree, at, 0, 0.0, "LEAF", 0, 0, 0) if leaf else
            (tree, at, part["split_feature"], _at_most(part["threshold"]), "BRANCH_LEQ", 0, 0, 0)
        )  # fmt: skip
        for name, value in zip(node, values, strict=True):
            node[name].append(value)
        if leaf:
            for name, value in zip(target, (tree, at, 0, float(part["leaf_value"])), strict=True):
                target[name].append(value)
            return end
        for side, child in (("truenodeids", "left_child"), ("falsenodeids", "right_child")):
            node[side][row] = end
            end = visit(tree, end, part[child])
        return end

    for number, tree in enumerate(trees or [{"leaf_value": 0.0}]):
        visit(number, 0, tree)
    attributes = {f"nodes_{name}": values for name, values in node.items()}
    attributes |= {f"target_{name}": values for name, values in target.items()}
    return {**attributes, "n_targets": 1, "base_values": [float(base)]}


def _at_most(threshold: float) -> float:
    """The largest float32 not above a threshold: float32 inputs fall on the same side of both."""
    near = np.float32(threshold)
    return float(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)))
