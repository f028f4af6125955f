import asyncio
import json
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from data_contracts.bundle import GOLDEN, GRAPH, BundleRefused, seal
from serving.loader import Bundle
from serving.scorer import MAX_ROWS, Model, ScoreFailed, Scorer, providers


def root_of_the_feature(folder: Path, golden: list[float]) -> Bundle:
    """A model whose score is the square root of its one feature: NaN below 0."""
    graph = helper.make_graph(
        [helper.make_node("Sqrt", ["dense"], ["r"]), helper.make_node("Squeeze", ["r"], ["s"]),
         helper.make_node("Reshape", ["s", "flat"], ["score"])],
        "root",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 1]),
         helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("flat", TensorProto.INT64, [1], [-1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / GRAPH)
    rows = {"ids": [[0], [1]], "dense": [[0.25], [0.01]], "scores": golden}
    (folder / GOLDEN).write_text(json.dumps(rows))
    said = {
        "use_case": "t", "model": "root", "features": ("x",), "categorical": (("c", 4),),
        "numeric": (), "feature_digests": {"x": "ab"}, "contract_version": "1",
        "contract_digest": "c", "golden_rows": 2, "fitted_until": 0, "metrics": {},
    }  # fmt: skip
    manifest = seal(folder, said)
    return Bundle("t", "1", manifest.digest(), manifest, folder)


def row(value: float) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((1, 1), np.int64), np.array([[value]], np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(root_of_the_feature(tmp_path, [0.5, 0.1]), threads=1)


def test_golden_rows_that_moved_refuse_the_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="golden rows"):
        Model(root_of_the_feature(tmp_path, [0.5, 0.2]), threads=1)


@pytest.mark.parametrize("size", [1, 21, 256])
def test_golden_rows_are_scored_in_runs_of_every_size(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Model.run

    def off_at_size(model: Model, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        return run(model, ids, dense) * (0.9 if len(ids) == size else 1.0)

    monkeypatch.setattr(Model, "run", off_at_size)
    with pytest.raises(BundleRefused, match="golden rows: logits differ"):
        Model(root_of_the_feature(tmp_path, [0.5, 0.1]), threads=1)


def test_cuda_is_taken_where_it_is_offered_in_full_precision_and_refused_where_it_is_not() -> None:
    cpu, cuda = ("CPUExecutionProvider", {}), ("CUDAExecutionProvider", {"use_tf32": "0"})
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert [cuda, cpu] == providers("cuda", both) == providers("auto", both)
    assert [cpu] == providers("cpu", both) == providers("auto", both[1:])
    with pytest.raises(ValueError, match=r"offers CPUExecutionProvider: install onnxruntime-gpu"):
        providers("cuda", both[1:])


def test_a_model_says_on_which_device_it_runs(tmp_path: Path) -> None:
    bundle = root_of_the_feature(tmp_path, [0.5, 0.1])
    if "CUDAExecutionProvider" in ort.get_available_providers():
        assert "cuda" == Model(bundle, 1, "auto").device == Model(bundle, 1, "cuda").device
        return
    assert "cpu" == Model(bundle, 1, "auto").device
    with pytest.raises(ValueError, match=r"^device cuda: onnxruntime .* take --device cpu$"):
        Model(bundle, 1, "cuda")


def test_inputs_outside_the_boundary_never_reach_the_engine(model: Model) -> None:
    with pytest.raises(BundleRefused, match=r"ids\[c\]"):
        model.run(np.array([[-1]], np.int64), np.array([[0.5]], np.float32))


def test_a_score_that_is_nan_fails_its_own_request_only(model: Model) -> None:
    async def scenario() -> list[object]:
        scorer = Scorer(model)
        deadline = time.monotonic() + 60
        asked = [scorer.score(*row(value), deadline) for value in (0.25, -1.0, 0.01)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        await scorer.close()
        return list(found)

    first, second, third = asyncio.run(scenario())
    assert isinstance(second, ScoreFailed)
    assert [0.5, 0.1] == pytest.approx([first.values[0], third.values[0]])  # type: ignore[attr-defined]


def test_each_request_gets_its_own_rows_back(model: Model) -> None:
    async def scenario() -> list[np.ndarray]:
        scorer = Scorer(model)
        deadline = time.monotonic() + 60
        sizes = [1, 300, 7, 255, 2]
        asked = [
            scorer.score(
                np.zeros((n, 1), np.int64), np.full((n, 1), (i / 10) ** 2, np.float32), deadline
            )
            for i, n in enumerate(sizes)
        ]
        found = await asyncio.gather(*asked)
        await scorer.close()
        return [scores.values for scores in found]

    found = asyncio.run(scenario())
    assert [1, 300, 7, 255, 2] == [len(values) for values in found]
    for i, values in enumerate(found):
        assert np.full(len(values), i / 10) == pytest.approx(values)


def test_a_large_request_is_scored_in_runs_of_256_rows_and_others_come_between(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, sizes = Model.run, list[int]()

    def counted(model: Model, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        sizes.append(len(ids))
        return run(model, ids, dense)

    monkeypatch.setattr(Model, "run", counted)

    async def scenario() -> list[np.ndarray]:
        scorer = Scorer(model)
        now, values = time.monotonic(), np.linspace(0, 1, 600, dtype=np.float32)[:, None]
        large = asyncio.create_task(
            scorer.score(np.zeros((600, 1), np.int64), values, now + 60, here=True)
        )
        small = asyncio.create_task(scorer.score(*row(0.25), now + 30))
        found = [(await task).values for task in (large, small)]
        await scorer.close()
        return found

    large, small = asyncio.run(scenario())
    assert [1, 256, 256, 88] == sizes
    assert np.sqrt(np.linspace(0, 1, 600)) == pytest.approx(large)
    assert [0.5] == small.tolist()


def test_the_earliest_deadline_goes_first_and_a_passed_one_is_refused(model: Model) -> None:
    async def scenario() -> list[str]:
        scorer = Scorer(model)
        now = time.monotonic()
        order: list[str] = []

        async def ask(name: str, rows: int, deadline: float) -> None:
            ids, dense = np.zeros((rows, 1), np.int64), np.ones((rows, 1), np.float32)
            try:
                await scorer.score(ids, dense, deadline)
                order.append(name)
            except TimeoutError:
                order.append(f"{name} too late")

        await asyncio.gather(
            ask("last", MAX_ROWS, now + 90), ask("gone", 1, now - 1), ask("first", 1, now + 30)
        )
        await scorer.close()
        return order

    assert ["gone too late", "first", "last"] == asyncio.run(scenario())
