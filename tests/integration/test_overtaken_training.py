"""What becomes of a version when the champion changes while it is trained."""

from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from data_contracts.lake import Lake
from data_contracts.moves import Moves
from data_contracts.override import Override
from data_contracts.use_case import load_use_case
from tests.decisions import answered
from tests.integration.sampled import training_set
from tests.integration.world import export
from tests.training_table import write_rows
from training.registry import Registry
from training.train import placed, train

NAME = "clicks"
WHY = "was judged against no champion, the champion is 1 now"


def test_a_version_that_was_overtaken_is_challenger_and_says_why(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", NAME)
    registry, client = Registry(lake), MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    use_case = load_use_case(NAME)
    manifest = export(use_case, tmp_path / "bundle")
    experiment = client.create_experiment(NAME, lake.mlflow_artifacts.as_uri())
    moves = Moves(registry, lake, use_case, "headrace train")
    decision = answered()
    found = []
    for _ in range(2):
        run = client.create_run(experiment, run_name="logistic").info.run_id
        found.append(
            placed(moves, registry.register(NAME, run, manifest.digest(), decision), decision)
        )
    first, (alias, refused) = found
    assert ("champion", None) == first
    assert ("challenger", True) == (alias, WHY in str(refused))
    client.set_registered_model_alias(NAME, "champion", "2")
    run = client.create_run(experiment, run_name="logistic").info.run_id
    third = registry.register(NAME, run, manifest.digest(), decision)
    alias, refused = placed(moves, third, decision)
    assert (None, True) == (alias, "the ledger says 1: set it back" in str(refused))


@pytest.mark.full
def test_training_ends_with_a_challenger_when_another_became_champion(tmp_path: Path) -> None:
    use_case = load_use_case(NAME)
    lake = Lake(tmp_path, NAME)
    write_rows(use_case, lake, training_set(use_case, every=6))
    other = replace(use_case.model, seed=use_case.model.seed + 1)
    beside = replace(use_case, declared=replace(use_case.declared, model=other))
    told: list[str] = []

    def meanwhile(step: str, _: float) -> None:
        told.append(step)
        if step == "register" and told.count(step) == 1:
            with pytest.raises(ValueError, match="the same training is under way"):
                train(use_case, lake, "logistic")
            rival = train(beside, lake, "logistic")
            assert ("1", "champion", None) == (rival.version, rival.alias, rival.refused)

    version = train(use_case, lake, "logistic", meanwhile)
    assert ("2", False, "challenger") == (version.version, version.promoted, version.alias)
    assert version.decision.promotes and WHY in str(version.refused)
    moves = Moves(Registry(lake), lake, use_case)
    assert [] == moves.verify()
    moved = moves.promote("2", "champion", Override("ada", "it was the better one all the same"))
    assert {"champion": "2", "previous_champion": "1"} == moved.said["after"]
