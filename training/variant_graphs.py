"""Other forms of a version's graph: int8 weights, embeddings in half precision, pruned ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from training.engine import QUANTISED, quantise

PRUNED = 0.5
"""Share of a table's rows that pruning takes out."""
LARGE = 256
"""Rows below which a table is not pruned: of hours or devices there is none to spare."""


class NotMade(ValueError):
    """A form that this graph or this machine does not allow, and why."""


@dataclass(frozen=True)
class Sample:
    """What is known of the training rows."""

    ids: np.ndarray
    """int64[n, C] of some rows, to calibrate by."""
    dense: np.ndarray
    """float32[n, D] of the same rows."""
    counts: tuple[np.ndarray, ...]
    """int64[buckets] of each column of ids: how many training rows hold each id."""


@dataclass(frozen=True)
class Form:
    """A form of the graph, and what it is made to save."""

    saves: Literal["time", "memory"]
    write: Callable[[Path, Path, Sample], None]
    """Graph, where to write, training rows; raises NotMade."""


@dataclass(frozen=True)
class Table:
    """An embedding in a graph: `rows` gives an id its row of the table, `vectors` the row's own."""

    vectors: NodeProto
    rows: NodeProto
    column: int
    """Of `ids`."""
    table: np.ndarray
    """float32[rows, dim], the last one for ids out of vocabulary."""
    row: np.ndarray
    """int64[buckets]"""


def int8_dynamic(graph: Path, to: Path, _: Sample) -> None:
    """int8 weights; the ranges of the inputs of each layer are taken from each batch."""
    _check_products(graph)
    quantise(graph, to)


def int8_static(graph: Path, to: Path, sample: Sample) -> None:
    """int8 weights; the ranges of the inputs of each layer are those of training rows."""
    _check_products(graph)
    quantise(graph, to, (sample.ids, sample.dense))


def fp16_embeddings(graph: Path, to: Path, _: Sample) -> None:
    """Embeddings held in half precision and computed with in single."""
    model = onnx.load(graph)
    held = _held(model)
    lookups = {n.output[0]: n for n in _lookups(model)}
    if not lookups:
        raise NotMade("its graph holds no embeddings")
    for name in {node.input[0] for node in lookups.values()}:
        half = numpy_helper.to_array(held[name]).astype(np.float16)
        if not np.isfinite(half).all():
            raise NotMade(f"{name}: beyond the range of half precision")
        held[name].CopyFrom(numpy_helper.from_array(half, name))
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        if output := next((name for name in node.output if name in lookups), None):
            node.output[0] = f"{output}_half"
            nodes.append(helper.make_node("Cast", [node.output[0]], [output], to=TensorProto.FLOAT))
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    # Shapes inferred at export say float for what is half now.
    del model.graph.value_info[:]
    _save(model, to)


def pruned_by_magnitude(graph: Path, to: Path, _: Sample) -> None:
    """Of large tables the rows of the smallest norm are one row of zeros."""

    def key(table: Table, rows: np.ndarray) -> np.ndarray:
        return np.linalg.norm(table.table[rows], axis=1)

    _prune(graph, to, key, shared=False)


def pruned_by_frequency(graph: Path, to: Path, sample: Sample) -> None:
    """Of large tables the rows that the fewest training rows held are the one out of vocabulary."""

    def key(table: Table, rows: np.ndarray) -> np.ndarray:
        held_by = np.zeros(len(table.table), np.int64)
        np.add.at(held_by, table.row, sample.counts[table.column])
        return held_by[rows]

    _prune(graph, to, key, shared=True)


FORMS: Mapping[str, Form] = {
    "int8_dynamic": Form("time", int8_dynamic),
    "int8_static": Form("time", int8_static),
    "fp16_embeddings": Form("memory", fp16_embeddings),
    "pruned_by_magnitude": Form("memory", pruned_by_magnitude),
    "pruned_by_frequency": Form("memory", pruned_by_frequency),
}


def tables(model: ModelProto) -> Iterator[Table]:
    """The embeddings of a graph; NotMade where one is looked up in a way not known here."""
    held = _held(model)
    made = {name: node for node in model.graph.node for name in node.output}
    for node in _lookups(model):
        try:
            rows = made[node.input[1]]
            select = made[made[rows.input[1]].input[0]]
            row = numpy_helper.to_array(held[rows.input[0]])
            column = int(numpy_helper.to_array(held[select.input[1]]))
        except (KeyError, IndexError, TypeError):
            raise NotMade(f"{node.input[0]}: looked up in no way known here") from None
        known = rows.op_type == "GatherND" and select.input[0] == "ids" and row.ndim == 1
        if not known:
            raise NotMade(f"{node.input[0]}: looked up in no way known here")
        yield Table(node, rows, column, numpy_helper.to_array(held[node.input[0]]), row)


def _prune(
    graph: Path, to: Path, key: Callable[[Table, np.ndarray], np.ndarray], shared: bool
) -> None:
    """Keep the rows with the largest keys; `shared`: others become the row out of vocabulary."""
    model = onnx.load(graph)
    large = [table for table in tables(model) if len(table.table) >= LARGE]
    if not large:
        raise NotMade(f"its graph holds no embedding of {LARGE} rows or more")
    for number, each in enumerate(large):
        outside = len(each.table) - 1
        used = np.unique(each.row[each.row != outside])
        order = used[np.argsort(key(each, used), kind="stable")]
        kept = np.sort(order[int(PRUNED * len(used)) :])
        last = [each.table[outside]] if shared else [each.table[outside], 0 * each.table[outside]]
        place = np.full(len(each.table), len(kept) + len(last) - 1)
        place[kept], place[outside] = np.arange(len(kept)), len(kept)
        names = f"pruned_{number}_table", f"pruned_{number}_row"
        arrays = np.vstack([each.table[kept], *last]), place[each.row].astype(np.int32)
        model.graph.initializer.extend(map(numpy_helper.from_array, arrays, names))
        each.vectors.input[0], each.rows.input[0] = names
    del model.graph.value_info[:]
    _save(model, to)


def _check_products(graph: Path) -> None:
    if not any(node.op_type in QUANTISED for node in onnx.load(graph).graph.node):
        raise NotMade(f"its graph holds none of {', '.join(QUANTISED)}")


def _lookups(model: ModelProto) -> Sequence[NodeProto]:
    """The nodes that gather rows of float matrices."""
    held = _held(model)
    return [
        node
        for node in model.graph.node
        if node.op_type == "Gather"
        and (table := held.get(node.input[0])) is not None
        and (table.data_type, len(table.dims)) == (TensorProto.FLOAT, 2)
    ]


def _held(model: ModelProto) -> dict[str, TensorProto]:
    return {each.name: each for each in model.graph.initializer}


def _save(model: ModelProto, to: Path) -> None:
    """Write a graph without what none of its nodes takes any more."""
    taken = {name for node in model.graph.node for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in taken]
    copies = [TensorProto.FromString(each.SerializeToString()) for each in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)
    onnx.checker.check_model(model)
    onnx.save(model, to.as_posix())
