"""A version and a champion that take other inputs, on the same rows."""

import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from data_contracts.bundle import FORMAT, open_bundle
from data_contracts.gates import better_than
from data_contracts.lake import Lake
from data_contracts.model_spec import ModelSpec
from data_contracts.use_case import UseCase, load_use_case
from tests.integration.sampled import training_set
from tests.training_table import write_rows
from training.batches import Rows
from training.data import Dataset, read_dataset
from training.engine import Engine
from training.evaluate import read_held
from training.registry import Registry
from training.train import Choices, train
from training.warm import NotContinued

NAME = "clicks"


def test_a_version_with_a_feature_more_is_compared_with_the_champion_on_the_same_rows(
    tmp_path: Path,
) -> None:
    use_case, lake = load_use_case(NAME), Lake(tmp_path, NAME)
    write_rows(use_case, lake, training_set(use_case, every=6))
    declared = replace(use_case.declared, groups=use_case.groups[:1])
    fewer = replace(use_case, declared=replace(declared, model=without_items(use_case.model)))
    assert train(fewer, lake, model="logistic").alias == "champion"
    found = train(use_case, lake, model="logistic")
    check = next(c for c in found.decision.checks if c.name == "better than champion 1")
    theirs, ours = (
        scored(Registry(lake), number, read_dataset(case, lake).splits["test"])
        for number, case in (("1", fewer), (found.version, use_case))
    )
    labels = read_dataset(use_case, lake).splits["test"].labels
    rule = next(r for r in use_case.declared.gates.rules if r.check == "better than champion")
    confidence = use_case.declared.gates.confidence
    users = read_held(use_case, lake, 0, labels).users
    assert better_than(rule, check.name, labels, ours, theirs, confidence, users) == check
    assert check.interval is not None
    assert not np.array_equal(ours, theirs)


def test_a_champion_of_an_older_bundle_format_stays_and_can_be_trained_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_case, lake = with_champion(tmp_path)
    monkeypatch.setattr("data_contracts.bundle.FORMAT", FORMAT + 1)
    found = train(use_case, lake, model="logistic")
    check = next(c for c in found.decision.checks if c.name == "better than champion 1")
    assert "cannot judge" == check.verdict
    assert f"format {FORMAT}, this reader knows {FORMAT + 1}: run `headrace" in check.value
    assert "challenger" == found.alias


def test_a_champion_that_knows_the_test_rows_is_neither_a_rival_nor_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where older history came in since, which moves the border of the test back."""
    use_case, lake = with_champion(tmp_path)

    def moved_back(*given: Any) -> Dataset:
        found = read_dataset(*given)
        assert found.fitted_until < found.judged_from
        return replace(found, judged_from=found.fitted_until)

    monkeypatch.setattr("training.train.read_dataset", moved_back)
    found = train(use_case, lake, model="logistic")
    check = next(c for c in found.decision.checks if c.name == "better than champion 1")
    known = "champion:? was fitted on rows up to 2019-.*, and the test rows begin at 2019-"
    assert "cannot judge" == check.verdict and re.search(known, check.value)
    assert "challenger" == found.alias
    with pytest.raises(NotContinued, match=f"{known}.*: train with --no-warm-start"):
        train(use_case, lake, model="logistic", choices=Choices(warm_start=True))


def with_champion(root: Path) -> tuple[UseCase, Lake]:
    """A lake whose first version is champion."""
    use_case, lake = load_use_case(NAME), Lake(root, NAME)
    write_rows(use_case, lake, training_set(use_case, every=6))
    assert "champion" == train(use_case, lake, model="logistic").alias
    return use_case, lake


def without_items(model: ModelSpec) -> ModelSpec:
    """The model of fewer inputs, in another order."""
    users = [c for c in reversed(model.categorical) if c.field != "item_id"]
    return replace(model, categorical=tuple(users), numeric=model.numeric[:1], item=())


def scored(registry: Registry, number: str, rows: Rows) -> np.ndarray:
    """What a version says of rows encoded as it was trained."""
    version = registry.version(NAME, number)
    with TemporaryDirectory() as home:
        folder = registry.download(version, Path(home))
        open_bundle(folder, version.digest)
        return Engine(folder).score(rows.ids, rows.dense)
