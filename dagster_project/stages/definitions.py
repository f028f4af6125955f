"""Looking at definitions before and after a change: what it costs, who reads what, what can go."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pd
from deltalake import DeltaTable

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from dagster_project.stages.features import packing_rate
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
    """Per group what a materialize and a backfill would compute, from how many events of how many
    days, for how many keys, and in what time at the rate of the last backfill (None before one);
    and every live view with its readers: one without is to be retired."""
    use_case, lake = deployment.use_case, deployment.lake
    views = list(ViewRegistry(lake).views().values())
    events = None
    if DeltaTable.is_deltatable(str(lake.events)):
        events = DeltaTable(str(lake.events)).to_pyarrow_dataset()
    groups: list[dict[str, Any]] = []
    rate = packing_rate(lake)
    for planned, group in zip(plan(use_case, views), use_case.groups, strict=True):
        costs: dict[str, Any] = dict.fromkeys(("events", "days", "keys", "largest_key"), 0)
        if planned.computed and events is not None:
            costs |= _counted(events, group.key_fields)
        costs["worst_bytes"] = costs["keys"] * planned.added_bytes
        costs["seconds"] = costs["events"] * planned.views / rate if rate else None
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


def _counted(events: pd.Dataset, fields: tuple[str, ...]) -> dict[str, int]:
    """How many events there are, on how many days, of how many keys, and of the largest key; no key
    where the table is older than a field of it."""
    days: set[Any] = set()
    keys: Counter[str] = Counter()
    held = {*fields} <= {*events.schema.names}
    for batch in events.to_batches(columns=["event_time", *(fields if held else ())]):
        days.update(batch["event_time"].cast(pa.date32()).unique().to_pylist())
        if held:
            own = key_array(fields, pa.Table.from_batches([batch])).drop_null().value_counts()
            keys.update(dict(zip(own.field(0).to_pylist(), own.field(1).to_pylist(), strict=True)))
    largest = max(keys.values(), default=0)
    return {"events": events.count_rows(), "days": len(days), "keys": len(keys),
            "largest_key": largest}  # fmt: skip
