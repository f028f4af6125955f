"""Looking at definitions before and after a change: what it costs, who reads what, what can go."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pd
from deltalake import DeltaTable

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.feature_plan import plan, readers
from data_contracts.views import ViewRegistry
from spark_jobs.keys import key_array
from spark_jobs.view_keeper import retire
from training.registry import Registry


def model_features(deployment: Deployment) -> dict[str, Mapping[str, str]]:
    """Version under an alias, as `champion 3`, -> its features with their digests."""
    registry, name = Registry(deployment.lake), deployment.use_case.name
    found: dict[str, Mapping[str, str]] = {}
    for alias, number in registry.aliases(name).items():
        found[f"{alias} {number}"] = registry.features(registry.version(name, number))
    return found


def plan_features(deployment: Deployment) -> dict[str, Any]:
    """Per group what a materialize would compute, from how many events and for how many keys; and
    every live view with its readers: one without is to be retired."""
    use_case, lake = deployment.use_case, deployment.lake
    views = list(ViewRegistry(lake).views().values())
    events = None
    if DeltaTable.is_deltatable(str(lake.events)):
        events = DeltaTable(str(lake.events)).to_pyarrow_dataset()
    groups: list[dict[str, Any]] = []
    for planned, group in zip(plan(use_case, views), use_case.groups, strict=True):
        costs = {"events": 0, "keys": 0, "worst_bytes": 0}
        if planned.computed and events is not None:
            keys = _distinct(events, group.key_fields)
            costs = {
                "events": events.count_rows(),
                "keys": keys,
                "worst_bytes": keys * planned.key_bytes,
            }
        groups.append({**asdict(planned), **costs})
    read_by = readers(use_case, views, model_features(deployment))
    listed = [{"view": name, "read_by": who} for name, who in read_by.items()]
    return {"groups": groups, "views": listed}


def retire_views(deployment: Deployment, names: Sequence[str], unread: bool) -> dict[str, Any]:
    """Retire the named views, or every `unread` one; ValueError for one that something reads."""
    use_case, lake = deployment.use_case, deployment.lake
    views = ViewRegistry(lake).views().values()
    read_by = readers(use_case, views, model_features(deployment))
    chosen = [name for name, who in read_by.items() if not who] if unread else list(names)
    for name in chosen:
        if who := read_by.get(name):
            raise ValueError(f"view {name}: is read by {', '.join(who)}: retire that first")
    reporter().stage(f"retire {len(chosen)} views")
    if chosen:
        retire(deployment.spark, use_case, lake, chosen)
    return {"retired": chosen}


def _distinct(events: pd.Dataset, fields: tuple[str, ...]) -> int:
    """How many keys the events hold; none where the table is older than a field of the key."""
    found: set[str] = set()
    if not {*fields} <= {*events.schema.names}:
        return 0
    for batch in events.to_batches(columns=list(fields)):
        keys = key_array(fields, pa.Table.from_batches([batch]))
        found.update(keys.drop_null().unique().to_pylist())
    return len(found)
