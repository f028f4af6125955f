from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from data_contracts.built_from import built_from
from data_contracts.bundle import TOWERS, BundleRefused, Inputs, open_bundle
from data_contracts.ranking import hits_at, mean_over_users
from data_contracts.use_case import load_use_case
from tests.unit.test_models import SPEC, data, rows, signal
from training.batches import Rows
from training.chosen import Chosen
from training.evaluate import predict
from training.export import export_bundle, write_towers
from training.fit import fit
from training.models.zoo import build_model
from training.retrieval import Index, NotDecomposed, Towers, item_field, open_towers

CLICKS, WORLD = load_use_case("clicks"), load_use_case("world")
INPUTS = Inputs({}, (("user", 64), ("item", 64)), (("x", 0.0), ("y", 0.0)))
SCORES = st.lists(st.integers(0, 4), min_size=1, max_size=8)


@given(SCORES, st.integers(1, 9), st.data())
def test_a_hit_is_as_likely_as_in_all_orders_of_tied_candidates(
    scores: list[int], k: int, drawn: st.DataObject
) -> None:
    own = drawn.draw(st.sampled_from(scores))
    above, same = sum(s > own for s in scores), scores.count(own)
    places = range(above, above + same)
    expected = sum(place < k for place in places) / same
    assert expected == hits_at(k, np.array([above]), np.array([same]))[0]


def test_a_choice_that_is_no_candidate_is_never_hit() -> None:
    assert [0.0] == hits_at(10, np.array([np.inf]), np.ones(1)).tolist()


def test_clicks_that_a_user_repeats_tell_no_more_than_one_of_them() -> None:
    hits = np.random.default_rng(0).random(60)
    once = mean_over_users(hits, None)
    often = mean_over_users(hits.repeat(3), np.repeat(np.arange(60), 3))
    assert (60, 180) == (once.n, often.n)
    assert [once.value, once.low, once.high] == pytest.approx([often.value, often.low, often.high])


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_inner_products_are_the_models_logits(rate: float, tmp_path: Path) -> None:
    spec = replace(SPEC, negative_rate=rate, max_epochs=2)
    model = fit("two_tower", spec, data(rows(900, 0, signal), rows(300, 1, signal), spec)).model
    later = rows(500, 2, signal)
    write_towers(model, 2, 2, tmp_path / TOWERS)
    towers = Towers(tmp_path / TOWERS, INPUTS)
    users, items = (towers.vectors(side, later) for side in ("user", "item"))
    found = 1 / (1 + np.exp(-(users * items).sum(axis=1)))
    assert found == pytest.approx(predict(model, later), rel=1e-4)
    ours, theirs = Rows(later.ids.copy(), later.dense, later.labels), towers.vectors("user", later)
    ours.ids[:, 0] = 7
    assert np.array_equal(theirs, towers.vectors("user", ours))
    ours.ids[0, 1] = 64
    with pytest.raises(BundleRefused, match=r"ids\[item\]: outside 0 … 63"):
        towers.vectors("user", ours)


def test_an_index_holds_the_newest_row_of_each_item(tmp_path: Path) -> None:
    train = rows(300, 0, signal)
    model = build_model("two_tower", SPEC, data(train, train).dataset.seen(SPEC))
    write_towers(model, 2, 2, tmp_path / TOWERS)
    towers = Towers(tmp_path / TOWERS, INPUTS)
    item = np.where(train.ids[:, 0] == 3, -1, train.ids[:, 0])
    index = Index(towers, 20)
    for part in (slice(0, 0), slice(0, 120), slice(120, 300)):
        index.take(train.take(part), item[part])
    every = towers.vectors("item", train)
    for number in range(20):
        own = np.flatnonzero(item == number)
        assert bool(len(own)) == index.known[number]
        if len(own):
            assert index.vectors[number] == pytest.approx(every[own[-1]], abs=1e-6)


def test_only_a_bundle_of_two_towers_has_vectors(tmp_path: Path) -> None:
    spec = CLICKS.model
    ids = np.ones((80, len(spec.categorical)), np.int64)
    dense = np.random.default_rng(0).normal(size=(80, len(CLICKS.feature_names) + 2))
    some = Rows(ids, dense.astype(np.float32), (np.arange(80) % 2).astype(np.float32))
    seen = replace(data(some, some, spec).dataset, item=CLICKS.item_columns).seen(spec)
    model = build_model("two_tower", spec, seen).eval()
    built, chosen = built_from(CLICKS, {}), Chosen(spec, {})
    sealed = export_bundle(CLICKS, "two_tower", model, some, {}, tmp_path, built, chosen, 0)
    manifest = open_bundle(tmp_path, sealed.digest())
    assert {"golden.json", "model.onnx", "spec.json", TOWERS, "weights.npz"} == set(
        manifest.members
    )
    open_towers(tmp_path, manifest)
    rest = {name: each for name, each in manifest.members.items() if name != TOWERS}
    with pytest.raises(BundleRefused, match=r"logistic has no towers\.onnx: train two_tower"):
        open_towers(tmp_path, replace(manifest, model="logistic", members=rest))
    other = build_model("two_tower", replace(spec, seed=1), seen).eval()
    for weight in other.parameters():
        nn.init.constant_(weight, 0.1)
    write_towers(other, ids.shape[1], dense.shape[1], tmp_path / TOWERS)
    with pytest.raises(BundleRefused, match="golden rows: logits differ"):
        open_towers(tmp_path, manifest)


def test_features_of_a_user_and_an_item_together_are_refused_by_name() -> None:
    assert "item_id" == item_field(CLICKS)
    with pytest.raises(NotDecomposed, match="group 'taste' on the user's side is keyed by user_id"):
        item_field(WORLD)
    spec = replace(CLICKS.model, item=(*CLICKS.model.item, "user", "user_id"))
    with pytest.raises(NotDecomposed, match=r"keys \['item_id', 'user_id'\], needs one"):
        item_field(replace(CLICKS, declared=replace(CLICKS.declared, model=spec)))
