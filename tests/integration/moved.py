"""A registry with three versions and their ledger, to move them by."""

from pathlib import Path
from shutil import copytree

from mlflow import MlflowClient

from data_contracts.gates import Decision
from data_contracts.lake import Lake
from data_contracts.moves import Moves
from data_contracts.override import Override
from data_contracts.use_case import load_use_case
from tests.decisions import answered
from training.registry import Registry

NAME = "clicks"
CLICKS = load_use_case(NAME)
BEFORE = {"challenger": "2", "champion": "1"}
AFTER = {"champion": "2", "previous_champion": "1"}
ADA = Override("ada", "the sale begins")


def registered(lake: Lake, decision: Decision, digest: str = "ab12") -> str:
    """The number of a version whose bundle nobody opens."""
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    found = client.get_experiment_by_name(NAME)
    files = lake.mlflow_artifacts.as_uri()
    home = found.experiment_id if found else client.create_experiment(NAME, files)
    run = client.create_run(home, run_name="logistic")
    return Registry(lake).register(NAME, run.info.run_id, digest, decision)


def three_versions(home: Path) -> Lake:
    """Version 1 is champion, 2 a challenger that may follow it, 3 one that failed a gate."""
    lake = Lake(home / "lake", NAME)
    moves = Moves(Registry(lake), lake, CLICKS, "headrace train")
    registered(lake, answered())
    moves.promote("1", "champion")
    registered(lake, answered("1"))
    registered(lake, answered("1", latency=90.0))
    moves.promote("3", "challenger")
    moves.promote("2", "challenger")
    return lake


def moves_of(lake: Lake, patience_s: float = 5.0) -> Moves:
    return Moves(Registry(lake), lake, CLICKS, "ada", patience_s=patience_s)


def copy_of(first: Lake, folder: Path) -> Lake:
    """A copy of that lake in `folder`, its ledger and registry its own."""
    copytree(first.root, folder)
    return Lake(folder, NAME)
