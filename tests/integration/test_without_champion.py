"""A server without a champion says what keeps the newest version from being one."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from data_contracts.bundle import BundleRefused
from data_contracts.lake import Lake
from serving.loader import registered_champion
from tests.decisions import answered
from tests.integration.moved import CLICKS, NAME, registered

NONE = "model clicks: no version has the alias champion: "


def test_a_server_without_a_champion_names_what_the_newest_version_lacks(tmp_path: Path) -> None:
    lake = Lake(tmp_path, NAME)
    (tmp_path / "mlflow").mkdir()
    with pytest.raises(BundleRefused, match=f"^{NONE}run `headrace train`$"):
        registered_champion(CLICKS, lake)
    registered(lake, answered(latency=90.0))
    promote = "`headrace models promote {} --to champion`"
    failed = r"version 1: its gates do not allow it: latency p99 \(fail\): train a better one, .*"
    with pytest.raises(BundleRefused, match=f"{NONE}{failed}{promote.format(1)} with --by"):
        registered_champion(CLICKS, lake)
    for _ in range(9):
        registered(lake, answered())
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    client.set_model_version_tag(NAME, "10", "bundle_sha256", "cd34")
    with pytest.raises(BundleRefused, match=f"{NONE}version 10: has no decision of its bundle"):
        registered_champion(CLICKS, lake)
    client.set_model_version_tag(NAME, "10", "bundle_sha256", "ab12")
    passed = f"{NONE}version 10 passed its gates: run {promote.format(10)}$"
    with pytest.raises(BundleRefused, match=passed):
        registered_champion(CLICKS, lake)
