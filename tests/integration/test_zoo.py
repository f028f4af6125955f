"""`headrace train --model NAME` for every name, and a training that is ended goes on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from deltalake import DeltaTable
from mlflow import MlflowClient
from typer.testing import CliRunner

from dagster_project.commands import model, models
from data_contracts.lake import Lake
from data_contracts.use_case import load_use_case
from data_contracts.world.log import write_world
from data_contracts.world.parameters import Parameters
from tests.benchmarks.training_sets import import_training_set
from tests.deskdrop_log import demand_log
from tests.integration.sampled import training_set
from tests.training_table import write_rows
from training.models.names import MODELS
from training.registry import Registry
from training.train import Choices, train
from training.trees import MOST_ROUNDS, PARAMETERS

REPOSITORY = Path(__file__).parents[2]
CLICKS, WORLD = load_use_case("clicks"), load_use_case("world")
DESKDROP = load_use_case(str(REPOSITORY / "tests/usecases/deskdrop"))


def lake_at(root: pytest.TempPathFactory) -> Lake:
    lake = Lake(root.mktemp("lake"), "clicks")
    write_rows(CLICKS, lake, training_set(CLICKS, every=10))
    return lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return lake_at(tmp_path_factory)


def asked(lake: Lake, *arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    for each in (model, models):
        each.register(app)
    done = CliRunner().invoke(app, [*arguments, "--root", str(lake.root)])
    return done.exit_code, done.stdout if done.exit_code == 0 else done.output


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("lightgbm", "two_tower") else pytest.mark.full)
        for name in MODELS
    ],
)
def test_every_model_of_the_zoo_becomes_a_version(name: str, lake: Lake) -> None:
    code, output = asked(lake, "train", "--model", name, "--json")
    assert 0 == code, output
    told = json.loads(output)
    version, metrics = Registry(lake).version("clicks", told["version"]), told["metrics"]
    assert (name, name, told["bundle"]) == (told["model"], version.model, version.digest)
    two_towers = name == "two_tower"
    beside = {"popularity"} if two_towers else set[str]()
    assert {name, "logistic", "constant", *beside} == set(metrics)
    assert two_towers == ("recall_at_10" in metrics[name])
    assert told["alias"] in ("champion", "challenger")
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    params = client.get_run(told["run_id"]).data.params
    assert name == params["model"]
    given = {**PARAMETERS, "rounds": MOST_ROUNDS} if name == "lightgbm" else {"learning_rate": 5e-4}
    assert {key: str(value) for key, value in given.items()}.items() <= params.items()
    assert ("hidden" in params) == (name != "lightgbm")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A small generated world's training set."""
    root = tmp_path_factory.mktemp("world")
    write_world(Parameters(20_000), root / "log", lambda _: None)
    lake = Lake(root / "lake", "world")
    import_training_set(WORLD, lake, root / "log")
    return lake


@pytest.fixture(scope="module")
def deskdrop(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The training set of the real log, where that is at hand."""
    log = demand_log()
    lake = Lake(tmp_path_factory.mktemp("deskdrop"), "deskdrop")
    import_training_set(DESKDROP, lake, log)
    return lake


@pytest.mark.full
@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_zoo_is_trained_on_the_world(name: str, world: Lake) -> None:
    version = train(WORLD, world, name)
    assert (name, {name, "logistic", "constant"}) == (version.model, set(version.metrics))
    assert version.alias in ("champion", "challenger")
    assert version.metrics[name]["auc"].low > 0.5
    reason = "feature group 'taste' on the user's side is keyed by user_id and category"
    assert (name == "two_tower") == (reason in str(version.not_retrieved))
    client = MlflowClient(world.mlflow_uri, world.mlflow_uri)
    held = client.get_model_version("world", version.version)
    run = client.get_run(version.run_id)
    assert ("true", "true") == (held.tags["simulated"], run.data.tags["simulated"])


@pytest.mark.full
@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_zoo_is_trained_on_deskdrop(name: str, deskdrop: Lake) -> None:
    version = train(DESKDROP, deskdrop, name)
    assert (name, None) == (version.model, version.not_retrieved)
    assert version.alias in ("champion", "challenger")
    assert version.metrics[name]["auc"].low > 0.7
    assert (name == "two_tower") == ("recall_at_10" in version.metrics[name])


def test_a_version_of_two_towers_gives_a_user_items_and_all_vectors(
    lake: Lake, tmp_path: Path
) -> None:
    version = train(CLICKS, lake, "two_tower")
    assert version.not_retrieved is None
    recalled, popular = (version.metrics[name] for name in ("two_tower", "popularity"))
    for found in (recalled["recall_at_10"], recalled["in_index"], popular["recall_at_10"]):
        assert 0 <= found.low <= found.value <= found.high <= 1
    gain = popular["recall_at_10_gain"].value
    assert recalled["recall_at_10"].value - popular["recall_at_10"].value == pytest.approx(gain)
    table = DeltaTable(lake.training_set).to_pyarrow_table(columns=["user_id", "item_id"])
    user, out = table["user_id"][0].as_py(), tmp_path / "vectors.npz"
    command = ("models", "retrieve", version.version, "--user", user)
    code, output = asked(lake, *command, "--top", "3", "--vectors", str(out), "--json")
    assert 0 == code, output
    told = json.loads(output)
    held = np.load(out)
    assert sorted(held["item"]) == sorted(set(table["item_id"].to_pylist()))
    assert len(held["item"]) == told["of"]
    logits = held["vectors"] @ held["user"]
    best = np.argsort(-logits, kind="stable")[:3]
    assert [row["item"] for row in told["items"]] == held["item"][best].tolist()
    assert [row["logit"] for row in told["items"]] == pytest.approx(logits[best].tolist())
    code, output = asked(lake, "models", "retrieve", version.version, "--user", "nobody")
    assert (1, True) == (code, "'nobody': has no row in" in " ".join(output.split())), output
    code, output = asked(lake, "models", "show", version.version)
    assert (0, True) == (code, "recall_at_10_gain" in output), output


def test_boosted_trees_that_were_ended_begin_from_the_start(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lake, notes = lake_at(tmp_path_factory), list[str]()

    def ended(step: str, share: float) -> None:
        if step == "fit logistic" and share > 0:
            raise Ended

    with pytest.raises(Ended):
        train(CLICKS, lake, "lightgbm", on_progress=ended)
    version = train(CLICKS, lake, "lightgbm", choices=Choices(resume=True), on_note=notes.append)
    assert "lightgbm" == version.model
    assert ["--resume: lightgbm keeps no state: it begins from the start"] == notes


class Ended(Exception):
    """A training that is ended amid its fits."""


def test_an_ended_training_goes_on_to_the_same_version(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    use_case = replace(
        CLICKS,
        declared=replace(CLICKS.declared, model=replace(CLICKS.model, max_epochs=4, patience=4)),
    )
    told: list[tuple[str, float]] = []

    def tell(step: str, share: float) -> None:
        told.append((step, share))
        if ("fit logistic", 0.5) == told[-1] and told.count(told[-1]) == 1:
            raise Ended

    lake = lake_at(tmp_path_factory)
    with pytest.raises(Ended):
        train(use_case, lake, on_progress=tell)
    with pytest.raises(ValueError, match="left by other data or choices: train without --resume"):
        train(CLICKS, lake, choices=Choices(resume=True))
    told.clear()
    resumed = train(
        use_case, lake, on_progress=lambda *each: told.append(each), choices=Choices(resume=True)
    )
    assert [("fit dcn_v2", 0.0), ("fit logistic", 0.0), ("fit logistic", 0.75)] == [
        each for each in told if each[0].startswith("fit")
    ][:3]
    assert not (lake.home / "training").exists()
    assert train(use_case, lake_at(tmp_path_factory)).bundle_digest == resumed.bundle_digest
