"""The whole way from a training set in Delta to a registered, judged and re-opened version."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from deltalake import DeltaTable
from mlflow import MlflowClient

from dagster_project.deployment import Deployment
from dagster_project.stages.parity import certified
from data_contracts.bundle import BundleRefused, Manifest, check_inputs, open_bundle
from data_contracts.gate_rules import Rule
from data_contracts.gates import recompute
from data_contracts.lake import Lake
from data_contracts.results import write_result
from data_contracts.use_case import Gates, UseCase, load_use_case
from data_contracts.views import digests_of, joint_digest
from tests.integration.sampled import training_set
from tests.training_table import write_rows
from training.code_version import code_version, environment, environment_digest
from training.data import read_dataset
from training.engine import Engine
from training.evaluate import BOOTSTRAPPED, read_held
from training.export import GOLDEN_ROWS, verify_golden
from training.registry import Registry
from training.run_record import RunRecord
from training.train import TrainedVersion, train

NAME = "clicks"


@dataclass(frozen=True)
class Trained:
    """A lake after its first training, and what was there to be told on the way."""

    use_case: UseCase
    lake: Lake
    version: TrainedVersion
    told: list[tuple[str, float]]
    working_folder: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    use_case = load_use_case(NAME)
    lake = Lake(tmp_path_factory.mktemp("lake"), use_case.name)
    write_rows(use_case, lake, training_set(use_case, every=3))
    DeltaTable(lake.training_set).optimize.compact()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    told: list[tuple[str, float]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        version = train(use_case, lake, on_progress=lambda *step: told.append(step))
    return Trained(use_case, lake, version, told, elsewhere)


NO_TIME = Rule("latency p99", "offline", limit=1e-9)
CERTIFICATE = {
    "log_digest": "ab12",
    "schedules": 200,
    "spark_schedules": 20,
    "kill_signals": 5,
    "compared": 100_000,
    "mismatches": 0,
    "holds": True,
}
CODE = {"package": "0.1.0", "commit": "c0de", "dirty": "false"}


@dataclass(frozen=True)
class History:
    """Four logistic versions in one lake, in the order of the fields."""

    lake: Lake
    failed: TrainedVersion
    champion: TrainedVersion
    later: TrainedVersion
    other: TrainedVersion


@pytest.fixture(scope="module")
def history(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> History:
    use_case, declared = trained.use_case, trained.use_case.declared
    lake = Lake(tmp_path_factory.mktemp("history"), use_case.name)
    copytree(trained.lake.training_set, lake.training_set)
    digests = digests_of(use_case.groups)
    write_result(
        lake, "parity_certificate", {**CERTIFICATE, "code": CODE, "feature_digests": digests}
    )
    impossible = replace(use_case, declared=replace(declared, gates=Gates(changed=(NO_TIME,))))
    fewer = replace(use_case, declared=replace(declared, groups=use_case.groups[:1]))
    cases = (impossible, use_case, use_case, fewer)
    return History(lake, *(train(case, lake, model="logistic") for case in cases))


def test_the_first_version_becomes_champion_unless_the_data_speak_against_it(
    trained: Trained,
) -> None:
    version = trained.version
    assert (version.decision.stage, version.decision.rival) == ("first version", None)
    assert [check.name for check in version.decision.checks] == [
        "definitions",
        "golden rows",
        "latency p99",
        "better than constant",
        "better than logistic",
        "calibration",
        "worst slice",
    ]
    assert recompute(version.decision.as_dict()) == version.decision
    assert ("pass", "cannot judge") == (version.decision.verdict, version.decision.advice)
    assert (version.promoted, version.alias) == (True, "champion")
    champion = Registry(trained.lake).champion(NAME)
    assert champion is not None
    assert (champion.version, champion.run_id) == ("1", version.run_id)
    assert champion.digest == version.bundle_digest
    of_its_bundle = replace(version.decision, bundle=version.bundle_digest).as_dict()
    assert of_its_bundle == Registry(trained.lake).decided(NAME, champion.version)


def test_every_metric_comes_with_an_interval_and_its_rows(trained: Trained) -> None:
    assert set(trained.version.metrics) == {"dcn_v2", "logistic", "constant"}
    for name, model in trained.version.metrics.items():
        beside = set() if name == "dcn_v2" else {"auc_gain"}
        assert {"auc", *BOOTSTRAPPED, "gauc", *beside} == set(model)
        assert {1001} == {model[name].n for name in ("auc", *BOOTSTRAPPED)}
        assert model["log_loss"].low < model["log_loss"].value < model["log_loss"].high


def test_progress_names_each_step_and_nothing_is_written_to_the_working_folder(
    trained: Trained,
) -> None:
    steps = dict.fromkeys(step for step, _ in trained.told)
    assert list(steps) == [
        "read", "fit dcn_v2", "fit logistic", "evaluate", "export", "judge", "register",
    ]  # fmt: skip
    assert all(0 <= share <= 1 for _, share in trained.told)
    assert list(trained.working_folder.iterdir()) == []


def test_the_registered_bundle_scores_its_golden_rows(trained: Trained, tmp_path: Path) -> None:
    folder, manifest = champion_bundle(trained, tmp_path)
    assert set(manifest.members) == {"model.onnx", "golden.json", "spec.json", "weights.npz"}
    assert manifest.features == trained.use_case.feature_names
    assert verify_golden(folder, manifest, Engine(folder)) == GOLDEN_ROWS
    golden = json.loads((folder / "golden.json").read_text())
    assert len(set(golden["scores"])) > GOLDEN_ROWS // 2
    assert b"training/models" not in (folder / "model.onnx").read_bytes()


def test_a_changed_member_is_refused(trained: Trained, tmp_path: Path) -> None:
    folder, manifest = champion_bundle(trained, tmp_path)
    graph = bytearray((folder / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (folder / "model.onnx").write_bytes(graph)
    with pytest.raises(BundleRefused, match=r"model\.onnx: sha256 differs"):
        open_bundle(folder, manifest.digest())


def test_a_stray_pickle_is_refused(trained: Trained, tmp_path: Path) -> None:
    folder, manifest = champion_bundle(trained, tmp_path)
    (folder / "weights.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(BundleRefused, match=r"weights\.pkl"):
        open_bundle(folder, manifest.digest())


def test_another_manifest_is_refused(trained: Trained, tmp_path: Path) -> None:
    folder, manifest = champion_bundle(trained, tmp_path)
    changed = replace(manifest, contract_version="9.9.9")
    (folder / "manifest.json").write_text(changed.to_json())
    with pytest.raises(BundleRefused, match="registered as"):
        open_bundle(folder, manifest.digest())


def test_inputs_of_another_width_or_with_a_negative_id_are_refused(
    trained: Trained, tmp_path: Path
) -> None:
    _, manifest = champion_bundle(trained, tmp_path)
    ids = np.ones((2, len(manifest.categorical)), np.int64)
    dense = np.zeros((2, len(manifest.features) + len(manifest.numeric)), np.float32)
    check_inputs(manifest, ids, dense)
    with pytest.raises(BundleRefused, match=r"^dense: float32"):
        check_inputs(manifest, ids, np.concatenate([dense, dense], axis=1))
    with pytest.raises(BundleRefused, match=r"^ids\[user_id\]"):
        check_inputs(manifest, np.where(np.arange(3) == 0, -1, ids), dense)


def test_the_run_records_data_definitions_environment_and_pictures(trained: Trained) -> None:
    client = MlflowClient(trained.lake.mlflow_uri, trained.lake.mlflow_uri)
    run = client.get_run(trained.version.run_id)
    dataset = read_dataset(trained.use_case, trained.lake)
    assert run.info.status == "FINISHED"
    # What MLflow's page shows as a run's duration and source.
    ended = run.info.end_time
    assert ended is not None
    assert 0.5 < (ended - run.info.start_time) / 1000 / trained.version.seconds <= 1
    assert "headrace train" == run.data.tags["mlflow.source.name"]
    assert run.data.tags["dataset_digest"] == dataset.digest
    assert run.data.tags["delta_version"] == "0"
    definitions = joint_digest(digests_of(trained.use_case.groups))
    assert definitions == run.data.tags["definitions"]
    assert ("12", "3") == tuple(
        run.data.tags[f"delta_version.{name}"] for name in ("events", "dimension.item")
    )
    code = code_version()
    assert code["package"] == run.data.tags["code_version"]
    assert code.get("commit") == run.data.tags.get("mlflow.source.git.commit")
    assert code.get("dirty") == run.data.tags.get("code_dirty")
    assert environment_digest(environment()) == run.data.tags["environment_sha256"]
    spec = {name: str(value) for name, value in asdict(trained.use_case.model).items()}
    assert "dcn_v2" == spec.pop("name")
    assert {*spec.items(), ("model", "dcn_v2")} <= set(run.data.params.items())
    assert run.inputs is not None
    assert run.inputs.dataset_inputs[0].dataset.source_type == "delta"
    curve = client.get_metric_history(trained.version.run_id, "dcn_v2.validation")
    assert [point.step for point in curve] == list(range(len(curve)))
    artifacts = {file.path for file in client.list_artifacts(trained.version.run_id)}
    assert artifacts == {
        "MLmodel", "bundle", "decision.json", "environment.json", "evaluation.json",
        "reliability.png", "roc.png", "scores.png", "slices.png",
    }  # fmt: skip


def test_a_fit_knows_the_users_by_whom_a_version_is_judged(trained: Trained) -> None:
    dataset = read_dataset(trained.use_case, trained.lake)
    labels, users = dataset.splits["test"].labels, dataset.users["test"]
    held = read_held(trained.use_case, trained.lake, dataset.delta_version, labels).users
    assert held is not None
    pairs = {*zip(users.tolist(), held.tolist(), strict=True)}
    assert len(pairs) == len({*users.tolist()}) == len({*held.tolist()}) < len(labels)


def test_a_run_takes_more_figures_than_fit_into_one_batch(history: History) -> None:
    registry = Registry(history.lake)
    manifest = registry.manifest(registry.version("clicks", history.champion.version))
    curve = [float(epoch) for epoch in range(2500)]
    run_record = RunRecord(
        manifest, 0, {}, {}, {"long": curve}, history.lake.training_set, 0, "", {}
    )
    folder = history.lake.root / "empty"
    folder.mkdir()
    run_id = registry.log_run(run_record, folder, folder)
    client = MlflowClient(history.lake.mlflow_uri, history.lake.mlflow_uri)
    assert curve == [point.value for point in client.get_metric_history(run_id, "long")]


def test_a_version_that_fails_a_gate_is_kept_as_challenger(history: History) -> None:
    failed = history.failed
    assert [c.name for c in failed.decision.checks if c.verdict == "fail"] == ["latency p99"]
    assert (failed.version, failed.promoted, failed.alias) == ("1", False, "challenger")


def test_a_later_version_that_is_not_shown_to_be_better_leaves_the_champion(
    history: History,
) -> None:
    assert history.champion.decision.rival is None
    assert history.champion.promoted
    later = history.later
    assert later.decision.rival == "2"
    assert later.decision.checks[-1].name == "better than champion 2"
    assert later.decision.checks[-1].verdict == "cannot judge"
    assert later.bundle_digest == history.champion.bundle_digest
    assert (later.version, later.promoted, later.alias) == ("3", False, "challenger")
    registry = Registry(history.lake)
    told = replace(later.decision, bundle=later.bundle_digest).as_dict()
    assert told == registry.decided(NAME, "3")


def test_a_champion_whose_features_are_gone_cannot_be_compared_and_stays(
    trained: Trained, history: History
) -> None:
    other = history.other
    assert other.decision.rival == "2"
    check = other.decision.checks[-1]
    assert ("better than champion 2", "required") == (check.name, check.level)
    gone = trained.use_case.groups[1].feature_names
    assert check.value.startswith(f"the champion takes {', '.join(gone[:3])} and {len(gone) - 3}")
    assert (other.decision.verdict, other.alias) == ("cannot judge", "challenger")


def test_the_registry_lists_every_version_and_its_aliases(history: History) -> None:
    registry = Registry(history.lake)
    assert [each.version for each in registry.versions(NAME)] == ["4", "3", "2", "1"]
    aliases = {"challenger": "4", "champion": "2"}
    assert registry.aliases(NAME) == aliases
    assert registry.champion("nothing") is None


def test_a_bundle_names_the_definitions_that_its_rows_were_built_by(trained: Trained) -> None:
    dataset = read_dataset(trained.use_case, trained.lake)
    registry = Registry(trained.lake)
    manifest = registry.manifest(registry.version(NAME, "1"))
    assert dict(dataset.built_from.features) == dict(manifest.feature_digests)


def champion_bundle(trained: Trained, folder: Path) -> tuple[Path, Manifest]:
    """A copy of the champion's bundle in `folder`, verified."""
    registry = Registry(trained.lake)
    champion = registry.champion(NAME)
    assert champion is not None
    copy = registry.download(champion, folder / "bundle-copy")
    return copy, open_bundle(copy, champion.digest)


def test_a_version_carries_the_certificate_of_its_own_definitions_and_no_other(
    history: History,
) -> None:
    client = MlflowClient(history.lake.mlflow_uri, history.lake.mlflow_uri)
    name = history.champion.name
    tags = [
        {
            key: value
            for key, value in client.get_model_version(name, each.version).tags.items()
            if key.startswith("parity.")
        }
        for each in (history.champion, history.other)
    ]
    assert "200" == tags[0]["parity.schedules"] and "ab12" == tags[0]["parity.log_digest"]
    assert {*CERTIFICATE, *CODE, "sha256"} == {key.removeprefix("parity.") for key in tags[0]}
    assert "c0de" == tags[0]["parity.commit"]
    assert {} == tags[1]
    files = {file.path for file in client.list_artifacts(history.champion.run_id)}
    assert "parity_certificate.json" in files
    registry = Registry(history.lake)
    own = registry.version(name, history.other.version)
    manifest = open_bundle(registry.download(own, history.lake.root / "own"), own.digest)
    mine = {**CERTIFICATE, "code": CODE, "feature_digests": dict(manifest.feature_digests)}
    assert not registry.attach_certificate(own, {**mine, "holds": False})
    assert registry.attach_certificate(own, mine)


def test_a_proof_that_comes_after_a_training_is_attached_to_the_versions_in_use(
    history: History,
) -> None:
    registry, deployment = Registry(history.lake), Deployment("clicks", history.lake.root)
    aliases = registry.aliases(NAME)
    later = registry.version(NAME, aliases["champion"])
    said = {**CERTIFICATE, "log_digest": "cd34", "code": CODE}
    mine = {**said, "feature_digests": registry.features(later)}
    found = certified(deployment, mine)
    assert aliases["champion"] in found and {*found} <= {*aliases.values()}
    client = MlflowClient(history.lake.mlflow_uri, history.lake.mlflow_uri)
    assert "cd34" == client.get_model_version(NAME, later.version).tags["parity.log_digest"]
    assert [] == certified(deployment, {**mine, "holds": False})
    assert [] == certified(Deployment("clicks", history.lake.root / "empty"), mine)
