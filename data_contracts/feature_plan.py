"""What a changed declaration means for the views of the online store, before anything is done."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from data_contracts.online import view_name
from data_contracts.use_case import UseCase
from data_contracts.views import View, digests_of, lacking_views, reading


@dataclass(frozen=True)
class GroupPlan:
    """One declared group against what the store holds."""

    group: str
    kept: tuple[str, ...]
    """Features that a view holds already."""
    computed: tuple[str, ...]
    """Features that `headrace materialize` would compute from every event, as views of their own;
    others may be among them that share their aggregates and windows."""
    views: int
    """How many views these are."""
    key_bytes: int
    """What one key of the group takes at worst, in all of its views."""
    added_bytes: int
    """Of these, in the views that would be made."""


def plan(use_case: UseCase, views: Iterable[View]) -> list[GroupPlan]:
    """Per declared group what is kept and what would be computed."""
    live = [view.group for view in views if view.live]
    plans: list[GroupPlan] = []
    for group in use_case.groups:
        lacking = lacking_views([group], live)
        computed = tuple(name for each in lacking for name in each.feature_names)
        kept = tuple(name for name in group.feature_names if name not in computed)
        whole, added = (
            sum(each.state_bytes for each in views)
            for views in (lacking_views([group], []), lacking)
        )
        plans.append(GroupPlan(group.name, kept, computed, len(lacking), whole, added))
    return plans


def readers(
    use_case: UseCase, views: Iterable[View], models: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Live view -> who reads it, now or once all are ready: the declared groups, or a model (label
    -> its feature digests)."""
    live = [view for view in views if view.live]
    found: dict[str, list[str]] = {view.name: [] for view in live}
    declared = digests_of(use_case.groups)
    for label, features in {"declared": declared, **models}.items():
        for several in ([view for view in live if view.status == "ready"], live):
            held = {pair for view in several for pair in view.group.feature_digests.items()}
            known = {name: digest for name, digest in features.items() if (name, digest) in held}
            for group in reading(known, [View(each.group, "ready") for each in several]).groups:
                if label not in found[view_name(group)]:
                    found[view_name(group)].append(label)
    return found
