"""A training set as training reads it, and what it is refused for."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from data_contracts.clock import DAY
from data_contracts.derived import Rate
from data_contracts.lake import Lake
from data_contracts.use_case import Split, UseCase, load_use_case
from tests.integration.sampled import training_set
from tests.training_table import write_rows
from training.data import NoTrainingData, read_dataset
from training.train import train

NAME = "clicks"


@dataclass(frozen=True)
class Rows:
    """A training set and its use case."""

    use_case: UseCase
    lake: Lake


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    use_case = load_use_case(NAME)
    lake = Lake(tmp_path_factory.mktemp("lake"), use_case.name)
    write_rows(use_case, lake, training_set(use_case, every=6))
    return Rows(use_case, lake)


def test_a_missing_training_set_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(NoTrainingData, match="headrace backfill --use-case clicks"):
        read_dataset(load_use_case(NAME), Lake(tmp_path, NAME))


def test_a_training_set_without_a_split_or_a_feature_is_refused_by_name(
    rows: Rows, tmp_path: Path
) -> None:
    table = DeltaTable(rows.lake.training_set).to_pyarrow_table()
    lake = Lake(tmp_path, NAME)
    write_rows(rows.use_case, lake, table.filter(pc.field("split") != "test"))
    with pytest.raises(NoTrainingData, match="split 'test' holds no row"):
        read_dataset(rows.use_case, lake)
    write_rows(rows.use_case, lake, table.drop_columns(["user_ctr_1h"]), "overwrite")
    with pytest.raises(NoTrainingData, match=r"lacks \['user_ctr_1h'\]"):
        read_dataset(rows.use_case, lake)


def test_a_training_set_of_other_declarations_is_refused_by_what_differs(
    rows: Rows, tmp_path: Path
) -> None:
    now, home = rows.use_case, rows.use_case.declared
    user, item = now.groups
    prior = replace(user, derived={**user.derived, "ctr": Rate("clicks", "impressions", 0.5, 200)})
    longer = replace(now.contract, retention=9 * DAY)
    cases = {
        "user_ctr_10m, user_ctr_1h, user_ctr_24h, user_ctr_last_1d": replace(
            home, groups=(prior, item)
        ),
        "label": replace(home, label=replace(home.label, within="9m")),
        "request_field": replace(home, request_field=None),
        "split": replace(home, split=Split(0.6, 0.2)),
    }
    changed = {said: replace(now, declared=each) for said, each in cases.items()}
    for said, use_case in {**changed, "contract": replace(now, contract=longer)}.items():
        mend = "than when these rows were built: run `headrace backfill --use-case clicks`"
        with pytest.raises(NoTrainingData, match=f"declares {said} otherwise {mend}"):
            train(use_case, rows.lake, "logistic")
    lake = Lake(tmp_path, NAME)
    write_deltalake(lake.training_set, DeltaTable(rows.lake.training_set).to_pyarrow_table())
    with pytest.raises(NoTrainingData, match=r"does not say from which .*: run `headrace backf"):
        train(now, lake, "logistic")


def test_the_dataset_digest_ignores_the_layout_of_the_files(rows: Rows, tmp_path: Path) -> None:
    table = DeltaTable(rows.lake.training_set).to_pyarrow_table()
    lake = Lake(tmp_path, NAME)
    for part in (table.slice(2000), table.slice(0, 2000)):
        write_rows(rows.use_case, lake, part, "append")
    first, shuffled = (read_dataset(rows.use_case, each) for each in (rows.lake, lake))
    assert first.digest == shuffled.digest
    assert (first.delta_version, shuffled.delta_version) == (0, 1)
