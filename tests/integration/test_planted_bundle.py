"""Bundles in which something was planted, opened the way a server and a warm start do."""

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from mlflow import MlflowClient
from onnx import TensorProto, helper

from data_contracts.bundle import GOLDEN, GRAPH, MANIFEST, BundleRefused
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, load_use_case
from serving.loader import load, registered_champion
from serving.scorer import Model
from tests.integration.world import register
from training.engine import Engine
from training.warm import WEIGHTS, warm_state


class Payload:
    """Makes the file `mark` when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@dataclass(frozen=True)
class Planted:
    """A registered champion whose stored bundle can be written to."""

    use_case: UseCase
    lake: Lake
    bundle: Path
    mark: Path
    """Made by planted code that runs."""

    def register_again(self) -> None:
        """Make the manifest true of the members again and register its digest: what somebody
        with the rights of a trainer could plant."""
        path = self.bundle / MANIFEST
        raw = json.loads(path.read_text())
        raw["members"] = {
            each.name: {
                "bytes": each.stat().st_size,
                "sha256": hashlib.sha256(each.read_bytes()).hexdigest(),
            }
            for each in self.bundle.iterdir()
            if each.name != MANIFEST
        }
        text = json.dumps(raw, sort_keys=True, indent=1)
        path.write_text(text)
        client = MlflowClient(self.lake.mlflow_uri, self.lake.mlflow_uri)
        digest = hashlib.sha256(text.encode()).hexdigest()
        client.set_model_version_tag(self.use_case.name, "1", "bundle_sha256", digest)

    def load(self) -> Model:
        """As a replica does that has never fetched it."""
        rmtree(self.lake.bundles, ignore_errors=True)
        champion = registered_champion(self.use_case, self.lake)
        return Model(load(self.use_case, self.lake, champion), threads=1)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    root = tmp_path_factory.mktemp("planted")
    use_case = load_use_case("clicks")
    lake = Lake(root, use_case.name)
    return Planted(use_case, lake, register(use_case, lake, root / "export"), root / "ran")


@pytest.fixture
def planted(stored: Planted) -> Iterator[Planted]:
    """The champion, whole again after each test."""
    whole = {path.name: path.read_bytes() for path in stored.bundle.iterdir()}
    yield stored
    for path in stored.bundle.iterdir():
        path.unlink()
    for name, content in whole.items():
        (stored.bundle / name).write_bytes(content)
    stored.register_again()


def payload(planted: Planted) -> bytes:
    return pickle.dumps(Payload(planted.mark))


def golden(planted: Planted, change: Callable[[dict[str, Any]], object]) -> None:
    path = planted.bundle / GOLDEN
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def pickle_in_a_program(planted: Planted) -> None:
    (planted.bundle / "model.pt2").write_bytes(payload(planted))


def pickle_for_a_graph(planted: Planted) -> None:
    (planted.bundle / GRAPH).write_bytes(payload(planted))


def graph_with_weights_outside(planted: Planted) -> None:
    np.zeros(1, np.float32).tofile(planted.bundle.parent / "outside")
    weights = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="../outside")
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, [1])
    node = helper.make_node("Identity", ["w"], ["score"])
    graph = helper.make_graph([node], "g", [], [score], [weights])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), planted.bundle / GRAPH)


def one_golden_score_less(planted: Planted) -> None:
    golden(planted, lambda raw: raw["scores"].pop())


def golden_rows_gone(planted: Planted) -> None:
    golden(planted, lambda raw: [raw[name].clear() for name in raw])


def golden_without_ids(planted: Planted) -> None:
    golden(planted, lambda raw: raw.pop("ids"))


def negative_golden_id(planted: Planted) -> None:
    golden(planted, lambda raw: raw["ids"][0].__setitem__(0, -1))


def golden_input_too_wide(planted: Planted) -> None:
    golden(planted, lambda raw: [row.append(0.0) for row in raw["dense"]])


def moved_golden_score(planted: Planted) -> None:
    golden(planted, lambda raw: raw["scores"].__setitem__(0, 0.987))


PLANTED: dict[Callable[[Planted], None], str] = {
    pickle_in_a_program: "member 'model.pt2' may unpickle or run",
    pickle_for_a_graph: f"{GRAPH}: the engine cannot load it",
    graph_with_weights_outside: f"{GRAPH}: the engine cannot load it: .*escapes",
    one_golden_score_less: f"{GOLDEN}: a golden row is missing: ids .16, 3., .*scores .15.",
    golden_rows_gone: f"{GOLDEN}: 0 golden rows, the manifest says 16",
    golden_without_ids: f"{GOLDEN}: needs ids, dense and scores: KeyError..ids",
    negative_golden_id: r"ids\[user_id\]: outside 0",
    golden_input_too_wide: r"dense: float32\[16, \d+\], needs float32\[rows, \d+\]",
    moved_golden_score: "golden rows: logits differ by",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_was_planted_before_registration_is_refused_by_name_and_never_runs(
    planted: Planted, plant: Callable[[Planted], None]
) -> None:
    plant(planted)
    planted.register_again()
    with pytest.raises(BundleRefused, match=PLANTED[plant]):
        planted.load()
    assert not planted.mark.exists()


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_was_planted_after_registration_is_refused_before_it_is_read(
    planted: Planted, plant: Callable[[Planted], None]
) -> None:
    plant(planted)
    told = r"clicks version 1: .*(sha256 differs|bytes, the manifest says|does not list)"
    with pytest.raises(BundleRefused, match=told):
        planted.load()
    assert not planted.mark.exists()


def test_a_wrong_digest_on_the_version_is_refused(planted: Planted) -> None:
    client = MlflowClient(planted.lake.mlflow_uri, planted.lake.mlflow_uri)
    client.set_model_version_tag("clicks", "1", "bundle_sha256", "0" * 64)
    with pytest.raises(BundleRefused, match=f"clicks version 1: .*registered as {'0' * 64}"):
        planted.load()


def test_the_whole_bundle_is_loaded_and_scores(planted: Planted) -> None:
    assert "1" == planted.load().bundle.version


def test_the_payload_would_run_if_anything_unpickled_it(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_the_training_side_loads_no_weights_from_outside_either(planted: Planted) -> None:
    graph_with_weights_outside(planted)
    with pytest.raises(Exception, match="escapes"):
        Engine(planted.bundle)


def test_a_pickle_among_the_weights_does_not_run_in_a_warm_start(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    np.savez(tmp_path / WEIGHTS, bias=np.array([Payload(mark)], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        warm_state(tmp_path, torch.nn.Linear(1, 1))
    assert not mark.exists()
