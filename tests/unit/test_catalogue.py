from dataclasses import replace

from data_contracts.aggregates import ApproxDistinct, Count, LastK, Mean
from data_contracts.catalogue import catalogue
from data_contracts.derived import Rate
from data_contracts.features import FeatureGroup
from data_contracts.use_case import load_use_case
from data_contracts.windows import Session, Sliding

GROUP = FeatureGroup(
    name="user",
    entity="user_id",
    aggregates={
        "clicks": Count(where=("click",)),
        "position": Mean("position", nulls="zero"),
        "items": LastK("item_id", k=2),
        "about": ApproxDistinct("item_id"),
    },
    windows=(Sliding("1h"), Session("30m")),
    derived={"ctr": Rate("clicks", "clicks", prior=0.5, strength=1.0)},
    defaults={"position": 2.5, "items": -1.0},
    owner="growth",
    description="What the user did",
)


def test_every_feature_is_listed_in_the_order_of_models_with_what_it_is() -> None:
    clicks = load_use_case("clicks")
    use_case = replace(clicks, declared=replace(clicks.declared, groups=(GROUP,)))
    listed = catalogue(use_case)
    assert list(use_case.feature_names) == [entry.name for entry in listed]
    by_name = {entry.name: entry for entry in listed}
    second = by_name["user_items_2_session_30m"]
    assert ("session_30m", "exact", -1.0, "skip") == (
        second.window, second.kind, second.default, second.nulls
    )  # fmt: skip
    assert ("sketch", 0.0) == (by_name["user_about_1h"].kind, by_name["user_about_1h"].default)
    assert ("zero", 2.5) == (by_name["user_position_1h"].nulls, by_name["user_position_1h"].default)
    assert ("", 0.5) == (by_name["user_ctr_1h"].nulls, by_name["user_ctr_1h"].default)
    assert {("float64", "growth", "What the user did")} == {
        (entry.type, entry.owner, entry.description) for entry in listed
    }
