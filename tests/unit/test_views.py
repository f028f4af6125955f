"""Definitions outlive their source code; a model's features are found in the views with them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.aggregates import Count
from data_contracts.definitions import from_json, to_json
from data_contracts.feature_plan import plan, readers
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.online import view_name
from data_contracts.use_case import load_use_case
from data_contracts.views import (
    View,
    ViewRegistry,
    digests_of,
    lacking_views,
    missing,
    reading,
)
from tests.strategies import FULL, groups

USER, ITEM = load_use_case("clicks").groups


@given(groups())
def test_a_definition_survives_json_with_every_digest(group: FeatureGroup) -> None:
    again = from_json(json.loads(json.dumps(to_json(group))))
    assert group == again
    assert (group.digest, group.feature_digests) == (again.digest, again.feature_digests)


def test_a_definition_of_an_unknown_kind_is_refused_by_its_name() -> None:
    said = to_json(USER)
    said["windows"][0]["$kind"] = "Hopping"
    with pytest.raises(ValueError, match="'Hopping'"):
        from_json(said)


@given(st.data())
def test_a_part_of_a_group_keeps_the_digests_of_its_features(data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.sampled_from(FULL.feature_names), min_size=1))
    part = FULL.only(wanted)
    assert wanted <= set(part.feature_names)
    assert part.feature_digests.items() <= FULL.feature_digests.items()


def test_an_aggregate_more_leaves_every_other_digest_as_it_was() -> None:
    wider = replace(USER, aggregates={**USER.aggregates, "all": Count()})
    added = wider.feature_digests.items() - USER.feature_digests.items()
    assert {f"user_all_{window.label}" for window in USER.windows} == {name for name, _ in added}
    lacking = missing(wider, [USER, ITEM])
    assert lacking is not None
    assert ["all"] == list(lacking.aggregates)
    assert missing(wider, [USER, lacking]) is None


def test_sketches_have_a_view_of_their_own_and_the_rest_of_a_group_another() -> None:
    exact, sketches = lacking_views([FULL], [])
    assert () == exact.sketched
    assert sketches.feature_names == sketches.sketched == FULL.sketched
    assert {*FULL.feature_names} == {*exact.feature_names, *sketches.feature_names}
    assert exact.state_bytes < FULL.state_bytes
    assert [] == lacking_views([FULL], [exact, sketches])
    assert [exact, USER] == lacking_views([FULL, USER], [sketches])


def test_a_group_without_sketches_is_one_view() -> None:
    assert [USER, ITEM] == lacking_views([USER, ITEM], [])


def test_another_default_changes_its_aggregate_and_what_derives_from_it() -> None:
    other = replace(USER, defaults={"clicks": 1.0, **USER.defaults})
    changed = other.feature_digests.items() - USER.feature_digests.items()
    kinds = {name.split("_")[1] for name, _ in changed}
    assert {"clicks", "ctr"} == kinds


def test_a_vector_is_put_together_from_the_views_that_hold_its_features() -> None:
    wider = replace(USER, aggregates={**USER.aggregates, "all": Count()})
    added = missing(wider, [USER])
    assert added is not None
    wanted = digests_of([wider, ITEM])
    found = reading(wanted, [View(added, "ready"), View(ITEM, "ready"), View(USER, "ready")])
    names = list(wanted)
    parts = [
        np.array([[names.index(n) if n in names else -1 for n in group.feature_names]], float)
        for group in found.groups
    ]
    assert list(range(len(names))) == found.vector(parts)[0].tolist()
    read = {
        view: {n for n, v in zip(names, found.view_of(), strict=True) if v == view}
        for view in range(3)
    }
    for view, group in enumerate(found.groups):
        assert read[view] <= set(group.feature_names)


def test_a_feature_of_a_view_that_is_not_ready_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="item_impressions_10m"):
        reading(digests_of([ITEM]), [View(ITEM, "building"), View(USER, "ready")])


def test_a_record_that_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    registry = ViewRegistry(Lake(tmp_path, "clicks"))
    first = View(USER, "ready", rebuilt=3)
    registry.put(first)
    registry.put(replace(first, rebuilt=5))
    registry.change(first, rebuilt=None)
    assert [5] == [view.rebuilt for view in ViewRegistry(Lake(tmp_path, "clicks")).views().values()]


def test_rebuilt_states_bring_no_view_back_that_was_retired_meanwhile(tmp_path: Path) -> None:
    registry = ViewRegistry(Lake(tmp_path, "clicks"))

    def after(held: View | None, before: View | None) -> View | None:
        registry.clear()
        if held is not None:
            registry.put(held)
        offered = registry.offer(USER, 5, before)
        found = next(iter(registry.views().values()), None)
        return found if offered else None

    live = View(USER, "ready", tiles_from="2020-01-01", keys=3)
    going, gone = View(USER, "retiring"), View(USER, "retired")
    assert View(USER, "building", rebuilt=5) == after(None, None) == after(gone, gone)
    assert View(USER, "ready", rebuilt=5, tiles_from="2020-01-01") == after(live, live)
    assert after(live, View(USER, "building")) is not None, "loaded meanwhile"
    assert [None] * 4 == [
        after(*each) for each in ((going, live), (gone, live), (gone, None), (going, going))
    ]


def test_a_view_that_a_server_reads_is_not_free_before_the_one_in_its_place_is_ready() -> None:
    use_case = load_use_case("clicks")
    wider = replace(USER, aggregates={**USER.aggregates, "all": Count()})
    building = [View(wider, "building"), View(USER, "ready"), View(ITEM, "ready")]
    everything = ["declared", "champion 1"]
    models = {"champion 1": digests_of([USER])}
    assert everything == readers(use_case, building, models)[view_name(USER)]
    ready = [replace(view, status="ready") for view in building]
    assert [] == readers(use_case, ready, models)[view_name(USER)]
    assert [("user", ()), ("item", ())] == [(p.group, p.computed) for p in plan(use_case, ready)]
