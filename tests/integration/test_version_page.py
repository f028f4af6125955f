"""What MLflow's page of a model version asks for, by the address that it asks at."""

import json
from pathlib import Path

import yaml
from mlflow.server import app, handlers

from data_contracts.bundle import seal
from data_contracts.gates import decision
from data_contracts.lake import Lake
from training.registry import Registry
from training.run_record import RunRecord


def test_the_page_of_a_version_is_given_its_schema_and_nothing_to_load(tmp_path: Path) -> None:
    lake, folder, record = Lake(tmp_path, "clicks"), tmp_path / "bundle", tmp_path / "record"
    folder.mkdir()
    record.mkdir()
    manifest = seal(
        folder,
        {
            "use_case": "clicks", "model": "logistic", "features": ("a", "b"),
            "categorical": (("item_id", 40),), "numeric": (("position", 2.0),),
            "feature_digests": {"a": "1", "b": "2"}, "contract_version": "1",
            "contract_digest": "c", "golden_rows": 1, "fitted_until": 0, "metrics": {},
        },
    )  # fmt: skip
    registry = Registry(lake)
    run_record = RunRecord(manifest, 0, {}, {}, {}, lake.training_set, 0, "", {})
    run_id = registry.log_run(run_record, record, folder)
    none = decision("offline", "first version", [], [])
    version = registry.register("clicks", run_id, manifest.digest(), none)
    handlers.initialize_backend_stores(lake.mlflow_uri)
    asked = {"path": "MLmodel", "name": "clicks", "version": version}
    address = "/model-versions/get-artifact"
    answer = app.test_client().get(address, query_string=asked, buffered=True)
    assert 200 == answer.status_code, answer.text
    said = yaml.safe_load(answer.text)
    assert {} == said["flavors"]
    tensors = [
        (tensor["name"], tensor["tensor-spec"]["dtype"], tensor["tensor-spec"]["shape"])
        for side in ("inputs", "outputs")
        for tensor in json.loads(said["signature"][side])
    ]
    expected = [
        ("ids", "int64", [-1, 1]),
        ("dense", "float32", [-1, 3]),
        ("score", "float32", [-1]),
    ]
    assert expected == tensors
    held = registry.download(registry.version("clicks", version), tmp_path / "again")
    assert ["manifest.json"] == [path.name for path in held.iterdir()]
