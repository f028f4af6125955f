"""A use case with an integer key and a pair of keys, and a log of it with keys that hurt."""

from dataclasses import replace
from typing import Any

from data_contracts.aggregates import Count, Distinct, Last, Mean
from data_contracts.clock import HOUR, MINUTE
from data_contracts.derived import Rate
from data_contracts.features import FeatureGroup
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.windows import Lifetime, Sliding
from tests.spark.lakes import NOON, click, impression

USERS = ["u1", "1:u", "", None, "e\u0301", "é"]
ITEMS = [0, -7, 12, None]
WINDOWS = (Sliding("10m"), Sliding("1h"), Lifetime())
COUNTS = {"shown": Count(where=("impression",)), "clicked": Count(where=("click",))}
GROUPS = (
    FeatureGroup(
        name="user",
        entity="user_id",
        aggregates={**COUNTS, "items": Distinct("item_id", cap=8)},
        windows=WINDOWS,
    ),
    FeatureGroup(
        name="item",
        entity="item_id",
        aggregates={**COUNTS, "position": Mean("position")},
        windows=WINDOWS,
    ),
    FeatureGroup(
        name="both",
        entity=("user_id", "item_id"),
        aggregates={**COUNTS, "last": Last("position")},
        windows=WINDOWS,
        derived={"ctr": Rate("clicked", "shown", prior=0.1, strength=2.0)},
        defaults={"last": -1.0},
    ),
)


def shop(groups: tuple[FeatureGroup, ...] = GROUPS) -> UseCase:
    """Clicks with whole numbers for items; every key may be absent, a user's may be empty."""
    clicks = load_use_case("clicks")
    fields = dict(clicks.contract.fields)
    fields["user_id"] = replace(fields["user_id"], required=False, min_length=None)
    fields["item_id"] = replace(
        fields["item_id"], type="integer", required=False, min_length=None, max_length=None,
        minimum=-100, maximum=10_000,
    )  # fmt: skip
    contract = replace(clicks.contract, fields=fields)
    return replace(clicks, contract=contract, declared=replace(clicks.declared, groups=groups))


def log() -> list[dict[str, Any]]:
    """Three hours in which every user meets every item, each of them missing now and then."""
    found: list[dict[str, Any]] = []
    for i in range(3 * len(USERS) * len(ITEMS)):
        keys: dict[str, Any] = {
            "user_id": USERS[i % len(USERS)],
            "item_id": ITEMS[i // len(USERS) % len(ITEMS)],
        }
        at = NOON + i * 2 * MINUTE
        found.append({**impression(f"e{i}", at, position=1 + i % 5), **keys})
        if i % 3 == 0:
            found.append({**click(f"e{i}", at + MINUTE // 2), **keys})
    found.append({**click("e1", NOON + 4 * HOUR), "user_id": "nobody", "item_id": 9})
    return found
