"""A third version, which scores as the second does and takes much longer."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from data_contracts.bundle import GRAPH, MANIFEST, seal
from tests.integration.releases import register_version
from tests.integration.world import World, export

TURNS = 6_000
"""Of a loop that adds nothing: some 15 ms for a request of five rows, beside 0.1 ms."""
_WIDTH = 32


def register_slow(world: World) -> Path:
    """Version 3; returns its stored bundle."""
    folder = world.root / "export3"
    manifest = export(world.use_case, folder, seed=4)
    model = onnx.load(folder / GRAPH)
    graph = model.graph
    for node in graph.node:
        # What goes into the sigmoid waits for the loop.
        if node.op_type == "Sigmoid":
            node.input[0] = "late"
    place = next(i for i, node in enumerate(graph.node) if node.op_type == "Sigmoid")
    for offset, node in enumerate(_loop()):
        graph.node.insert(place + offset, node)
    dense = next(each for each in graph.input if each.name == "dense")
    width = dense.type.tensor_type.shape.dim[1].dim_value
    rng = np.random.default_rng(1)
    weights = {
        "wide": rng.normal(0, 0.1, (width, _WIDTH)).astype(np.float32),
        "turn": rng.normal(0, 0.1, (_WIDTH, _WIDTH)).astype(np.float32),
        "turns": np.array(TURNS, np.int64),
        "goes": np.array(True),
        "across": np.array([1], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in weights.items())
    onnx.checker.check_model(model)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    (folder / MANIFEST).unlink()
    said = {k: v for k, v in vars(manifest).items() if k not in ("members", "format")}
    return register_version(world, folder, seal(folder, said))


def _loop() -> list[onnx.NodeProto]:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["held", "turn"], ["turned"]),
            helper.make_node("Tanh", ["turned"], ["next"]),
            helper.make_node("Identity", ["on"], ["on_too"]),
        ],
        "turns",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, ["n", _WIDTH]),
        ],
        [
            helper.make_tensor_value_info("on_too", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["n", _WIDTH]),
        ],
    )
    return [
        helper.make_node("MatMul", ["dense", "wide"], ["begun"]),
        helper.make_node("Loop", ["turns", "goes", "begun"], ["ended"], body=body),
        helper.make_node("ReduceMean", ["ended", "across"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nought"]),
        helper.make_node("Add", ["z", "nought"], ["late"]),
    ]
