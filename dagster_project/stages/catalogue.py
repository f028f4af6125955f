"""Looking at features: the catalogue, one value explained, a data set for labels of one's own."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.catalogue import catalogue
from data_contracts.clock import parse_time
from spark_jobs.dataset import build_dataset
from spark_jobs.explain import explain


def list_features(deployment: Deployment) -> list[dict[str, Any]]:
    """Every feature; `default_rate` is the share of training rows that hold its default, None
    where there is no training set yet."""
    listed = [asdict(entry) for entry in catalogue(deployment.use_case)]
    path = deployment.lake.training_set
    if not DeltaTable.is_deltatable(str(path)):
        return [{**entry, "default_rate": None} for entry in listed]
    table = DeltaTable(str(path)).to_pyarrow_table()
    held = [entry for entry in listed if entry["name"] in table.column_names]
    rates = {e["name"]: float((table[e["name"]].to_numpy() == e["default"]).mean()) for e in held}
    return [{**entry, "default_rate": rates.get(entry["name"])} for entry in listed]


def explain_features(deployment: Deployment, entity: str, at: str) -> dict[str, Any]:
    """`entity` is `field=key`; the features of each group with that entity at the time `at`."""
    field, _, key = entity.partition("=")
    groups = [group for group in deployment.use_case.groups if group.entity == field]
    if not groups or not key:
        known = ", ".join(f"{name}=…" for name in deployment.use_case.entities)
        raise ValueError(f"--entity {entity!r}: name one of {known}")
    q = parse_time(at)
    reporter().stage(f"explain {entity} at {at}")
    parts = (deployment.spark, deployment.use_case, deployment.lake)
    return {group.name: asdict(explain(*parts, group, key, q)) for group in groups}


def build_own_dataset(
    deployment: Deployment, labels: Path, features: Sequence[str], time: str, out: Path
) -> dict[str, Any]:
    """The label table with its features, as parquet."""
    reporter().stage(f"join features to {labels.name}")
    parts = (deployment.spark, deployment.use_case, deployment.lake)
    return {"out": str(out), "rows": build_dataset(*parts, labels, out, features, time)}
