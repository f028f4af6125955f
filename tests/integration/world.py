"""A small real lake: a registered ONNX champion, online states in Feast, API keys."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper

from data_contracts.accumulators import Events
from data_contracts.bundle import GRAPH, Manifest, seal, write_golden
from data_contracts.clock import SECOND, format_time, parse_time
from data_contracts.lake import Lake
from data_contracts.states import advance
from data_contracts.tiles import raw_rows
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.views import View, ViewRegistry, digests_of
from serving.auth import create_key
from serving.settings import Settings
from spark_jobs.feature_store import OnlineStates

NOW = parse_time("2019-11-30T12:00:00.000000Z")
"""Everything was written to the online store at this moment."""

SEQ = 7
CLICK = {
    "event_id": "e1",
    "event_type": "click",
    "event_time": format_time(NOW + SECOND),
    "user_id": "u1",
    "item_id": "i1",
    "impression_id": "x",
}


@dataclass(frozen=True)
class World:
    """Where a server finds everything, and the keys to it."""

    root: Path
    use_case: UseCase
    lake: Lake
    predict: str
    events: str
    operate: str
    bundle: Path
    """The registered bundle's folder in the artifact store."""


def build(root: Path, folder: Path | None = None, user: str = "u1") -> World:
    """Fill `root` for the use case `clicks`, or for what `folder` declares in its place; `user` is
    whom the online store knows."""
    use_case = load_use_case(str(folder or "clicks"))
    lake = Lake(root, use_case.name)
    bundle = register(use_case, lake, root / "export")
    write_states(use_case, lake, user)
    predict = create_key(lake.keys, ["predict"], "reader")
    events = create_key(lake.keys, ["events"], "collector")
    operate = create_key(lake.keys, ["predict", "events", "operate"], "replay")
    return World(root, use_case, lake, predict, events, operate, bundle)


def register(use_case: UseCase, lake: Lake, folder: Path) -> Path:
    """Export a bundle, register it, make it champion; returns its folder in the artifact store."""
    manifest = export(use_case, folder)
    lake.mlflow_artifacts.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=lake.mlflow_uri, registry_uri=lake.mlflow_uri)
    experiment = client.create_experiment(use_case.name, lake.mlflow_artifacts.as_uri())
    run = client.create_run(experiment)
    client.log_artifacts(run.info.run_id, str(folder), "bundle")
    client.create_registered_model(use_case.name)
    source = f"{run.info.artifact_uri}/bundle"
    version = client.create_model_version(
        use_case.name, source, run.info.run_id, tags={"bundle_sha256": manifest.digest()}
    )
    client.set_registered_model_alias(use_case.name, "champion", version.version)
    return Path(run.info.artifact_uri.removeprefix("file://")) / "bundle"


def export(
    use_case: UseCase, folder: Path, seed: int = 3, most: float = 1e7, fitted_until: int = 0
) -> Manifest:
    """A logistic model over all inputs as a sealed bundle in `folder`; NaN for an affinity
    above `most`."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    columns, width = len(use_case.model.categorical), len(use_case.feature_names)
    width += len(use_case.model.numeric)
    weights = {
        "a": rng.normal(0, 1e-3, (columns, 1)).astype(np.float32),
        "b": rng.normal(0, 0.1, (width, 1)).astype(np.float32),
        "flat": np.array([-1], np.int64),
        "last": np.array([width - 1], np.int64),
        "most": np.array([most], np.float32),
        "zero": np.array([0.0], np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["ids"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["f", "a"], ["x"]),
            helper.make_node("MatMul", ["dense", "b"], ["y"]),
            helper.make_node("Add", ["x", "y"], ["w"]),
            helper.make_node("Gather", ["dense", "last"], ["affinity"], axis=1),
            helper.make_node("Sub", ["most", "affinity"], ["room"]),
            helper.make_node("Sqrt", ["room"], ["root"]),
            helper.make_node("Mul", ["root", "zero"], ["nothing"]),
            helper.make_node("Add", ["w", "nothing"], ["z"]),
            helper.make_node("Sigmoid", ["z"], ["p"]),
            helper.make_node("Reshape", ["p", "flat"], ["score"]),
        ],
        "logistic",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", columns]),
            helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["n", width]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    ids = np.stack([rng.integers(0, c.buckets, 16) for c in use_case.model.categorical], axis=1)
    dense = rng.normal(0, 1, (16, width)).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["score"], {"ids": ids, "dense": dense})
    write_golden(folder, ids, dense, scores)
    said = {
        "use_case": use_case.name,
        "model": "logistic",
        "features": use_case.feature_names,
        "categorical": tuple((c.field, c.buckets) for c in use_case.model.categorical),
        "numeric": tuple((n.field, n.default) for n in use_case.model.numeric),
        "feature_digests": digests_of(use_case.groups),
        "contract_version": use_case.contract.version,
        "contract_digest": use_case.contract.digest,
        "golden_rows": len(ids),
        "fitted_until": fitted_until,
        "metrics": {},
    }
    return seal(folder, said)


def write_states(use_case: UseCase, lake: Lake, user: str = "u1") -> None:
    """That user and item i1 saw 5 impressions in the last 5 s, one of them clicked."""
    views = ViewRegistry(lake)
    for group in use_case.groups:
        views.put(View(group, "ready"))
    online = OnlineStates(use_case, lake)
    for group, key in zip(use_case.groups, (user, "i1"), strict=True):
        fresh = raw_rows(group, np.zeros(6, np.int64), _events())
        online.write(group, advance(group, {}, [key], fresh, SEQ, NOW))


def _events() -> Events:
    return Events(
        time=NOW - np.arange(6, 0, -1) * SECOND,
        tie=np.arange(6),
        text={"event_type": np.array(["impression"] * 5 + ["click"], object)},
        number={
            "position": np.array([1.0, 2.0, 3.0, 1.0, 2.0, np.nan]),
            "affinity": np.array([0.5, 0.25, 0.0, 1.0, 2.0, np.nan]),
        },
    )


def patient(root: Path, **changes: Any) -> Settings:
    """Settings of a server that refuses nothing for want of time: for every test that is not about
    deadlines, since whatever else runs on the machine makes it slow."""
    return Settings(**{"root": root, "timeout_ms": 60_000, **changes})


def as_role(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def asked(q: int = NOW + SECOND, **changes: Any) -> dict[str, Any]:
    body = {
        "request_id": "r1",
        "event_time": format_time(q),
        "user_id": "u1",
        "candidates": [{"item_id": "i1", "position": 1}],
    }
    return body | changes
