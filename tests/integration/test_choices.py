"""How a version may be trained: on rows in files, after a search, from the champion's weights."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from mlflow import MlflowClient

from dagster_project.defs.model import model
from dagster_project.deployment import Deployment
from dagster_project.stages.model import train_model
from data_contracts.bundle import open_bundle
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, load_use_case
from tests.integration.sampled import training_set
from tests.training_table import write_rows
from training.chosen import read_chosen
from training.data import read_dataset
from training.registry import Registry
from training.restored import restored
from training.train import Choices, train
from training.warm import NotContinued

CLICKS = load_use_case("clicks")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("lake"), "clicks")
    write_rows(CLICKS, lake, training_set(CLICKS, every=6))
    return lake


def test_rows_in_files_are_the_rows_in_memory(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_dataset(CLICKS, lake)
    monkeypatch.setattr("training.batches.IN_MEMORY", 0)
    monkeypatch.setattr("training.data.AT_ONCE", 100)
    found = read_dataset(CLICKS, lake)
    assert isinstance(found.splits["train"].dense, np.memmap)
    assert expected.digest == found.digest
    assert np.array_equal(expected.splits["test"].dense, found.splits["test"].dense)


@pytest.mark.full
def test_of_many_rows_only_times_ids_splits_and_users_are_in_memory(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = DeltaTable(lake.training_set).to_pyarrow_table()
    times, length = 60, 300
    many = pa.concat_tables([few] * times)
    ids = pa.array([f"{number:0{length}}" for number in range(many.num_rows)])
    many = many.set_column(many.column_names.index("event_id"), "event_id", ids)
    large = Lake(tmp_path, "clicks")
    write_rows(CLICKS, large, many)
    monkeypatch.setattr("training.batches.IN_MEMORY", 0)
    monkeypatch.setattr("training.data.AT_ONCE", 2048)
    del ids
    usual, counted = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(counted)
    tracemalloc.start()
    try:
        found = read_dataset(CLICKS, large)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)
    assert many.num_rows * 0.5 < sum(len(rows.labels) for rows in found.splits.values())
    # Python's and numpy's own, without pages of mapped files.
    assert peak < many.num_rows * length / 4
    # Arrow's: the ids, those of a split once more, and what a scan of so few rows reads ahead.
    assert counted.max_memory() < many.num_rows * (4 * length + 100)


def test_a_search_leaves_its_trials_below_the_run_and_a_champion_to_begin_with(lake: Lake) -> None:
    with pytest.raises(ValueError, match="champion of clicks is none yet, not logistic"):
        train(CLICKS, lake, "logistic", choices=Choices(warm_start=True))
    first = train(CLICKS, lake, "logistic", choices=Choices(search=2))
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    below = f"tags.`mlflow.parentRunId` = '{first.run_id}'"
    experiment = client.get_run(first.run_id).info.experiment_id
    assert ["trial 1", "trial 0"] == [
        run.info.run_name for run in client.search_runs([experiment], below)
    ]
    warm = train(CLICKS, lake, "logistic", choices=Choices(warm_start=True))
    curves = [
        client.get_metric_history(run, "logistic.validation") for run in (first.run_id, warm.run_id)
    ]
    best = min(point.value for point in curves[0])
    assert best == pytest.approx(curves[1][0].value, rel=1e-4)
    assert not (lake.home / "training").exists()


@pytest.mark.full
def test_a_champion_of_found_sizes_is_gone_on_from_and_made_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", "clicks")
    write_rows(CLICKS, lake, training_set(CLICKS, every=6))
    base = declaring("dcn_v2", warm_start=True)
    # So slow that any trial beats what is declared.
    slow = replace(base.model, learning_rate=1e-7, max_epochs=2)
    use_case = replace(base, declared=replace(base.declared, model=slow))
    first = train(use_case, lake, choices=Choices(search=3))
    registry = Registry(lake)
    folder = registry.download(registry.version("clicks", first.version), tmp_path / "first")
    found = read_chosen(folder).found
    assert (slow.hidden, slow.cross_layers) != (found["hidden"], found["cross_layers"])
    restored(use_case, open_bundle(folder, first.bundle_digest), folder)
    versions = [
        train(use_case, lake, choices=choices) for choices in (Choices(), Choices(warm_start=True))
    ]
    assert [("1", ())] * 2 == [(each.continued_from, each.notes) for each in versions]
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    best, *begun = (
        [point.value for point in client.get_metric_history(each.run_id, "dcn_v2.validation")]
        for each in (first, *versions)
    )
    assert [pytest.approx(min(best), rel=1e-4)] * 2 == [curve[0] for curve in begun]
    for each in versions:
        assert str(found["hidden"]) == client.get_run(each.run_id).data.params["hidden"]


def declaring(name: str, warm_start: bool = False) -> UseCase:
    spec = replace(CLICKS.model, name=name)
    retrain = replace(CLICKS.declared.retrain, warm_start=warm_start)
    return replace(CLICKS, declared=replace(CLICKS.declared, model=spec, retrain=retrain))


def test_the_declared_model_is_trained_and_begins_with_the_champion_where_that_is_declared(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path, "clicks")
    write_rows(CLICKS, lake, training_set(CLICKS, every=6))
    use_case = declaring("logistic", warm_start=True)
    first, again = (train(use_case, lake) for _ in range(2))
    cold = train(use_case, lake, choices=Choices(warm_start=False, resume=True))
    other = train(use_case, lake, "fm")
    versions = (first, again, cold, other)
    assert ["logistic"] * 3 + ["fm"] == [each.model for each in versions]
    assert [None, "1", None, None] == [each.continued_from for each in versions]
    assert [(), ()] == [first.notes, again.notes]
    nothing = "--resume: nothing of these rows and choices to go on from: begin from the start"
    assert (nothing,) == cold.notes
    assert ("warm start: begin anew: champion: is logistic, not fm",) == other.notes
    registry = Registry(lake)
    assert ["none", "1", "none", "none"] == [
        registry.version("clicks", each.version).continued_from for each in versions
    ]
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    curves = [
        [p.value for p in client.get_metric_history(each.run_id, "logistic.validation")]
        for each in (first, again, cold)
    ]
    assert curves[0] == curves[2]
    assert min(curves[0]) == pytest.approx(curves[1][0], rel=1e-4)
    assert curves[1][0] < curves[0][0]


def test_two_towers_whose_sides_were_others_are_not_gone_on_from(tmp_path: Path) -> None:
    lake = Lake(tmp_path, "clicks")
    write_rows(CLICKS, lake, training_set(CLICKS, every=10))
    train(declaring("two_tower"), lake)
    use_case = declaring("two_tower")
    spec = replace(use_case.model, item=("item_id", "position", "user"))
    other = replace(use_case, declared=replace(use_case.declared, model=spec))
    warm = Choices(warm_start=True)
    said = r"its item's side is \['item', 'item_id'\] where the use case declares "
    with pytest.raises(NotContinued, match=said):
        train(other, lake, choices=warm)
    turned = replace(spec, item=("item_id", "item"))
    same = replace(use_case, declared=replace(use_case.declared, model=turned))
    assert "1" == train(same, lake, choices=warm).continued_from


@pytest.mark.full
def test_a_declared_start_from_a_champion_of_other_inputs_or_sizes_begins_anew_and_says_so(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path, "clicks")
    write_rows(CLICKS, lake, training_set(CLICKS, every=6))
    use_case = declaring("dcn_v2", warm_start=True)
    train(use_case, lake)
    spec = use_case.model
    first, second, *others = spec.categorical
    swapped = replace(spec, categorical=(second, first, *others))
    wider = replace(spec, hidden=(*(2 * size for size in spec.hidden),))
    for changed, said in ((swapped, f"champion: takes ('{first.field}', "), (wider, " shape: ")):
        other = replace(use_case, declared=replace(use_case.declared, model=changed))
        told: list[str] = []
        version = train(other, lake, on_note=told.append)
        (anew,) = told
        assert anew.startswith("warm start: begin anew: champion: ") and said in anew
        assert ((anew,), None) == (version.notes, version.continued_from)
        client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
        assert anew == client.get_run(version.run_id).data.tags["notes"]
        with pytest.raises(ValueError, match="train with --no-warm-start"):
            train(other, lake, choices=Choices(warm_start=True))


def test_a_declared_model_that_cannot_be_is_refused_before_anything_is_read(lake: Lake) -> None:
    with pytest.raises(ValueError, match="model 'dcn': not in the zoo: name one of dcn_v2, deepfm"):
        train(declaring("dcn"), lake)
    with pytest.raises(ValueError, match="warm_start: lightgbm has no weights to begin with"):
        train(declaring("lightgbm", warm_start=True), lake)


def test_the_stage_behind_the_asset_trains_the_declared_model(tmp_path: Path) -> None:
    folder = copytree(CLICKS.folder, tmp_path / "clicks")
    declaration = (folder / "use_case.py").read_text()
    named = declaration.replace("model=ModelSpec(", 'model=ModelSpec(name="lightgbm",')
    (folder / "use_case.py").write_text(named)
    deployment = Deployment(str(folder), tmp_path / "root")
    write_rows(deployment.use_case, deployment.lake, training_set(CLICKS, every=6))
    assert "lightgbm" == train_model(deployment)["model"]


@pytest.mark.full
def test_a_schedule_hears_that_a_declared_warm_start_began_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copytree(CLICKS.folder, tmp_path / "clicks")
    declaration = (folder / "use_case.py").read_text()
    warm = 'retrain=Retrain(warm_start=True), model=ModelSpec(name="logistic",'
    named = declaration.replace("model=ModelSpec(", warm)
    (folder / "use_case.py").write_text(f"from data_contracts.use_case import Retrain\n{named}")
    deployment = Deployment(str(folder), tmp_path / "root")
    write_rows(deployment.use_case, deployment.lake, training_set(CLICKS, every=6))
    train(deployment.use_case, deployment.lake, "fm")
    monkeypatch.setattr("dagster_project.defs.model.deployment", lambda: deployment)
    (told,) = dg.materialize([model]).asset_materializations_for_node("model")
    note = "warm start: begin anew: champion: is fm, not logistic"
    assert ("none", note) == (told.metadata["continued_from"].value, told.metadata["notes"].value)
