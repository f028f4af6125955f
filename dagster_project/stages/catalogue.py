"""Looking at features: the catalogue, one value explained, a data set for labels of one's own."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import cache, reduce
from operator import and_, or_
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from dagster_project.stages.definitions import model_features
from data_contracts.accumulators import Where, conditions
from data_contracts.catalogue import Listed, catalogue
from data_contracts.clock import format_time, parse_time
from data_contracts.contract import Field
from data_contracts.features import FeatureGroup
from data_contracts.keys import text_of
from data_contracts.lake import Lake
from data_contracts.views import digests_of
from serving.online import StateReader
from spark_jobs.columns import micros
from spark_jobs.dataset import build_dataset, compared_as_known
from spark_jobs.explain import explain
from spark_jobs.stored_values import Packed, stored_values


def list_features(deployment: Deployment) -> dict[str, Any]:
    """`features`: every feature with the models that take it as declared now, and rates that are
    None before there is a table: `default_rate` is the share of training rows that hold its
    default, `null_rate` the share of all events that lack its field. `fresh_to`: the time of the
    latest event that its group counts for any key.
    """
    use_case, lake = deployment.use_case, deployment.lake
    models = model_features(deployment)
    declared = digests_of(use_case.groups)
    defaults = _default_rates(lake, catalogue(use_case))
    nulls = _null_rates(lake)
    fresh = {group.name: _fresh_to(lake, group) for group in use_case.groups}
    features = [
        {
            **asdict(entry),
            "default_rate": defaults.get(entry.name),
            "null_rate": nulls.get(entry.field),
            "fresh_to": fresh[entry.group],
            "models": [m for m, f in models.items() if f.get(entry.name) == declared[entry.name]],
        }
        for entry in catalogue(use_case)
    ]
    return {"features": features}


def _default_rates(lake: Lake, listed: Sequence[Listed]) -> dict[str, float]:
    if not DeltaTable.is_deltatable(str(lake.training_set)):
        return {}
    rows = DeltaTable(str(lake.training_set)).to_pyarrow_dataset()
    defaults = {e.name: e.default for e in listed if e.name in rows.schema.names}
    found, total = Counter[str](), 0
    for batch in rows.to_batches(columns=[*defaults]):
        total += len(batch)
        for name, default in defaults.items():
            values = batch[name].to_numpy(zero_copy_only=False)
            found[name] += int((values == default).sum())
    return {name: found[name] / total for name in defaults} if total else {}


def _null_rates(lake: Lake) -> dict[str, float]:
    """Field -> share of events without it, from the log's statistics; a file that is older than a
    field holds it in no row."""
    if not DeltaTable.is_deltatable(str(lake.events)):
        return {}
    files = pa.table(DeltaTable(str(lake.events)).get_add_actions(flatten=True)).to_pandas()
    total = files["num_records"].sum()
    prefix = "null_count."
    counts = {
        name.removeprefix(prefix): files[name].fillna(files["num_records"])
        for name in files
        if name.startswith(prefix)
    }
    return {name: float(count.sum() / total) for name, count in counts.items()} if total else {}


def _fresh_to(lake: Lake, group: FeatureGroup) -> str | None:
    """The time of the latest event that has a key of the group and that an aggregate counts."""
    if not DeltaTable.is_deltatable(str(lake.events)):
        return None
    events = DeltaTable(str(lake.events)).to_pyarrow_dataset()
    held = {*events.schema.names}
    if not {*group.key_fields} <= held:
        return None
    keyed = reduce(and_, [pc.field(name).is_valid() for name in group.key_fields])
    counted = reduce(or_, [_matches(agg.where, held) for agg in group.aggregates.values()])
    latest = [
        int(micros(pa.Table.from_batches([batch])["event_time"]).max())
        for batch in events.to_batches(columns=["event_time"], filter=keyed & counted)
        if len(batch)
    ]
    return format_time(max(latest)) if latest else None


def _matches(where: Where, held: Collection[str]) -> pc.Expression:
    wanted = conditions(where)
    if not {name for name, _ in wanted} <= {*held}:
        return pc.scalar(False)
    each = [pc.field(name).isin(list(values)) for name, values in wanted]
    return reduce(and_, each, pc.scalar(True))


def explain_features(deployment: Deployment, entity: str, at: str) -> dict[str, Any]:
    """`entity` is `field=key`, or `field=key,field=key` for a pair; the features of each group with
    that entity at the time `at`, and as `stored` what the stores hold of them (None: nothing)."""
    groups, fields = deployment.use_case.groups, deployment.use_case.contract.fields
    named = [(group, parts) for group in groups if (parts := _parts(group.key_fields, entity))]
    # What names a pair could be read as one long key of its first field, too.
    most = max((len(parts) for _, parts in named), default=0)
    keys = [(g, _key(fields, g.key_fields, parts)) for g, parts in named if len(parts) == most]
    if not keys:
        forms = dict.fromkeys(",".join(f"{n}=…" for n in group.key_fields) for group in groups)
        raise ValueError(f"--entity {entity!r}: name one of {' or '.join(forms)}")
    q = parse_time(at)
    reporter().stage(f"explain {entity} at {at}")
    parts = (deployment.spark, deployment.use_case, deployment.lake)
    states = _packed_states(deployment)
    found: dict[str, Any] = {}
    for group, key in keys:
        stored = stored_values(*parts, group, key, q, states)
        found[group.name] = {
            **asdict(explain(*parts, group, key, q)),
            "stored": stored and asdict(stored),
        }
    return found


def _packed_states(deployment: Deployment) -> Packed:
    """The states of the online store, as the server reads them."""
    store = cache(lambda: StateReader(deployment.lake, deployment.use_case.contract.fields))
    return lambda group, key: store().packed(group, [key])[key]


def _parts(names: Sequence[str], entity: str) -> tuple[str, ...] | None:
    """What `entity` gives to the named fields, None where it names others."""
    given = re.fullmatch(",".join(f"{re.escape(name)}=(.*)" for name in names), entity, re.DOTALL)
    return given and given.groups()


def _key(fields: Mapping[str, Field], names: Sequence[str], parts: Sequence[str]) -> str:
    each = zip(names, parts, strict=True)
    return text_of(tuple(_part(fields[name], text) for name, text in each))


def _part(field: Field, text: str) -> str | int:
    if field.type != "integer":
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--entity {field.name}={text!r}: is an integer: give one") from None


def build_own_dataset(
    deployment: Deployment,
    labels: Path,
    features: Sequence[str],
    time: str,
    out: Path,
    only_known: bool = False,
) -> dict[str, Any]:
    """The label table with its features, as parquet; with `only_known` from what could be read at
    the time, and how that differs from what had happened."""
    reporter().stage(f"join features to {labels.name}")
    parts = (deployment.spark, deployment.use_case, deployment.lake)
    rows = build_dataset(*parts, labels, out, features, time, only_known)
    found: dict[str, Any] = {"out": str(out), "rows": rows}
    if only_known:
        reporter().stage("compare with what had happened")
        written = deployment.spark.read.parquet(str(out))
        found["as_known"] = compared_as_known(*parts, written, time, features)
    return found
