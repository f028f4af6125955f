from dataclasses import replace

import pytest

from tests.unit.test_models import SPEC, data, rows, signal
from training.search import search

DATASET = data(rows(600, 0, signal), rows(300, 1, signal)).dataset
QUICK = replace(SPEC, max_epochs=2)


def test_a_search_begins_with_the_declared_spec_and_repeats_itself() -> None:
    told: list[int] = []
    found = search("logistic", QUICK, DATASET, 4, told.append)
    assert found == search("logistic", QUICK, DATASET, 4)
    assert [1, 2, 3, 4] == told
    assert {} == found.trials[0].choices
    losses = [trial.validation for trial in found.trials]
    assert found.choices == found.trials[losses.index(min(losses))].choices
    assert [3] * 4 == [len(trial.curve) for trial in found.trials]
    assert losses == [min(trial.curve) for trial in found.trials]


def test_a_search_of_trees_is_refused() -> None:
    with pytest.raises(ValueError, match="lightgbm takes none of the searched choices"):
        search("lightgbm", QUICK, DATASET, 2)
