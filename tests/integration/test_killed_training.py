"""`headrace train` that is killed -9, and what the next one makes of it."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from data_contracts.lake import Lake
from data_contracts.use_case import load_use_case
from tests.integration.dying_training import PLACES
from tests.integration.sampled import training_set
from tests.training_table import write_rows

ROOT = Path(__file__).parents[2]
COMMAND = (str(Path(sys.executable).with_name("headrace")),)
DYING = (sys.executable, "-m", "tests.integration.dying_training")
EPOCH = "the second epoch of the model"


def headrace(lake: Lake, *arguments: str) -> dict[str, Any]:
    done = ran(COMMAND, lake, *arguments, "--json")
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def ran(command: tuple[str, ...], lake: Lake, *arguments: str) -> subprocess.CompletedProcess[str]:
    told = [*command, *arguments, "--root", str(lake.root)]
    return subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=False)


def training(lake: Lake, *arguments: str) -> dict[str, Any]:
    """What `headrace train` says of how good its version is; the bundle's digest covers its
    weights."""
    told = headrace(lake, "train", *arguments)
    return {name: told[name] for name in ("model", "metrics", "slices", "bundle", "notes")}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    use_case = load_use_case("clicks")
    lake = Lake(tmp_path_factory.mktemp("lake"), use_case.name)
    write_rows(use_case, lake, training_set(use_case, every=10))
    return lake


def copied(lake: Lake, folder: Path) -> Lake:
    return Lake(copytree(lake.root, folder), lake.use_case)


@pytest.fixture(scope="module")
def undisturbed(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return training(copied(lake, tmp_path_factory.mktemp("undisturbed") / "lake"))


@pytest.mark.parametrize(
    "place",
    [pytest.param(each, marks=() if each == EPOCH else pytest.mark.full) for each in PLACES],
)
def test_a_killed_training_leaves_nothing_half_made_and_goes_on_to_the_same_version(
    lake: Lake, undisturbed: dict[str, Any], tmp_path: Path, place: str
) -> None:
    own = copied(lake, tmp_path / "lake")
    died = ran((*DYING, place), own, "train", "--json")
    assert -signal.SIGKILL == died.returncode, died.stderr
    assert "" == died.stdout
    before = headrace(own, "models", "list")["versions"]
    registered = place not in (EPOCH, "its run")
    assert registered == bool(before)
    assert [] == headrace(own, "models", "verify")["faults"]
    assert undisturbed == training(own, "--resume")
    after = headrace(own, "models", "list")["versions"]
    assert len(before) + 1 == len(after)
    assert {each["bundle"] for each in after} == {undisturbed["bundle"]}
    assert 1 == sum("champion" in each["aliases"] for each in after)
    assert [] == headrace(own, "models", "verify")["faults"]
    assert not (own.home / "training").exists()
