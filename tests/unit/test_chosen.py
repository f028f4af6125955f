"""A bundle says by which spec its module was fitted, and is gone on from by that."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_contracts.built_from import built_from
from data_contracts.bundle import open_bundle
from data_contracts.use_case import load_use_case
from tests.unit.test_models import data
from training.batches import Rows
from training.chosen import SPEC, Chosen, NoSpec, read_chosen, write_chosen
from training.data import TrainingData
from training.export import export_bundle
from training.fit import epoch_zero
from training.models.zoo import build_model
from training.restored import restored

CLICKS = load_use_case("clicks")
FOUND = {"hidden": (16,), "cross_layers": 1, "learning_rate": 0.002, "batch_size": 256}


def some_rows(n: int) -> Rows:
    rng = np.random.default_rng(0)
    sizes = [column.buckets for column in CLICKS.model.categorical]
    dense = rng.normal(size=(n, len(CLICKS.feature_names) + len(CLICKS.model.numeric)))
    labels = (np.arange(n) % 2).astype(np.float32)
    return Rows(rng.integers(1, sizes, (n, len(sizes))), dense.astype(np.float32), labels)


def test_the_module_of_a_found_spec_is_made_again_and_gone_on_from(tmp_path: Path) -> None:
    chosen, rows = Chosen(CLICKS.model, FOUND), some_rows(80)
    assert replace(CLICKS.model, **FOUND) == chosen.spec
    dataset = replace(data(rows, rows, chosen.spec).dataset, item=CLICKS.item_columns)
    model = build_model("dcn_v2", chosen.spec, dataset.seen(chosen.spec)).eval()
    parts = CLICKS, "dcn_v2", model, rows, {}, tmp_path, built_from(CLICKS, {}), chosen, 0
    manifest = open_bundle(tmp_path, export_bundle(*parts).digest())
    assert SPEC in manifest.members
    again = restored(CLICKS, manifest, tmp_path)
    goes_on = read_chosen(tmp_path).under(CLICKS.model).spec
    warm = epoch_zero("dcn_v2", goes_on, TrainingData(dataset, goes_on), tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert torch.equal(value, warm.state_dict()[name])


def test_what_was_chosen_is_read_as_it_was_written(tmp_path: Path) -> None:
    for found in ({}, FOUND):
        write_chosen(Chosen(CLICKS.model, found), tmp_path)
        assert Chosen(CLICKS.model, found) == read_chosen(tmp_path)


def test_what_was_found_gives_way_where_something_else_is_declared_by_now() -> None:
    chosen, wider = Chosen(CLICKS.model, FOUND), replace(CLICKS.model, hidden=(256,))
    longer = replace(CLICKS.model, max_epochs=99)
    assert replace(longer, **FOUND) == chosen.under(longer).spec
    kept = {name: value for name, value in FOUND.items() if name != "hidden"}
    assert replace(wider, **kept) == chosen.under(wider).spec


def test_a_bundle_that_does_not_say_its_spec_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoSpec, match=r"no spec\.json that can be read"):
        read_chosen(tmp_path)
    told = {"declared": asdict(CLICKS.model), "found": {"depth": 3}}
    (tmp_path / SPEC).write_text(json.dumps(told))
    with pytest.raises(NoSpec, match="'depth'"):
        read_chosen(tmp_path)
