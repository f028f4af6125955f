"""`headrace train --model NAME` for every name, and a training that is ended goes on."""

from dataclasses import replace

import pytest
from deltalake import write_deltalake
from mlflow import MlflowClient

from data_contracts.lake import Lake
from data_contracts.use_case import load_use_case
from tests.integration.sampled import training_set
from training.models.names import MODELS
from training.registry import Registry
from training.train import Choices, train
from training.trees import MOST_ROUNDS, PARAMETERS

CLICKS = load_use_case("clicks")


def lake_at(root: pytest.TempPathFactory) -> Lake:
    lake = Lake(root.mktemp("lake"), "clicks")
    write_deltalake(lake.training_set, training_set(CLICKS, every=12))
    return lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return lake_at(tmp_path_factory)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("lightgbm", "two_tower") else pytest.mark.full)
        for name in MODELS
    ],
)
def test_every_model_of_the_zoo_becomes_a_version(name: str, lake: Lake) -> None:
    version = train(CLICKS, lake, name)
    assert (name, name) == (version.model, Registry(lake).version("clicks", version.version).model)
    assert {name, "logistic", "constant"} == set(version.metrics)
    assert version.alias in ("champion", "challenger")
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    params = client.get_run(version.run_id).data.params
    assert name == params["model"]
    told = {**PARAMETERS, "rounds": MOST_ROUNDS} if name == "lightgbm" else {"learning_rate": 5e-4}
    assert {key: str(value) for key, value in told.items()}.items() <= params.items()
    assert ("hidden" in params) == (name != "lightgbm")


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
