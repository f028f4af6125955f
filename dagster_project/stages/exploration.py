"""Stage exploration: what other orders would have been worth, by the slates that were drawn."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from dagster_project.deployment import Deployment
from dagster_project.stages.models import find_version
from data_contracts.bundle import BundleRefused, open_bundle
from data_contracts.lake import Lake
from data_contracts.off_policy import no_value
from data_contracts.results import write_result
from data_contracts.stages import PATH
from data_contracts.use_case import UseCase
from data_contracts.version_registry import Version
from training.engine import Engine
from training.exploration import explored_values, unserved_value
from training.export import verify_golden
from training.logged_scores import with_scores
from training.registry import Registry

_READ = ("prediction_id", "request_id", "version", "score", "rank", "boost", "slot_propensity",
         "slate_propensity", "temperature", "q", "definitions")  # fmt: skip
_GIVEN = ("features", "inputs")
"""What a version scores a candidate by."""


def value_exploration(deployment: Deployment) -> dict[str, Any]:
    """Target policy to its value over the slates whose labels have matured; {} where the use case
    does not explore, or nothing of it has matured."""
    use_case, lake = deployment.use_case, deployment.lake
    if use_case.declared.exploration is None:
        return {}
    rows = _explored(lake, use_case)
    registry, confidence, user = Registry(lake), *_told_by(lake, use_case)
    drawn = rows.drop_columns([*_GIVEN])
    values = explored_values(drawn, use_case.identity, confidence, user) if len(rows) else {}
    result = {name: value.as_dict() for name, value in values.items()}
    for number in _unserved(registry, use_case, rows) if values else ():
        try:
            version = registry.version(use_case.name, number)
            valued = _valued(deployment, registry, version, rows)
        except BundleRefused as why:
            valued = no_value(f"its bundle is refused: {why}").as_dict() | {"left_out": {}}
        result[f"version {number}"] = valued
    said = {"values": result, "confidence": confidence, "intervals_over": user or "slates"}
    write_result(lake, "exploration", said)
    return result


def value_version(deployment: Deployment, number: str) -> dict[str, Any]:
    """What the slates whose labels the last report joined tell of a version that answered none of
    them, beside what they earned; kept as a tag of the version.

    Raises ValueError where nothing is drawn or joined, BundleRefused for a bundle that is not what
    was registered.
    """
    use_case, lake = deployment.use_case, deployment.lake
    registry, version = find_version(deployment, number)
    if use_case.declared.exploration is None:
        raise ValueError(f"use case {use_case.name}: declares no exploration: no slate was drawn")
    if not DeltaTable.is_deltatable(str(lake.outcomes)):
        raise ValueError(f"{lake.outcomes}: no outcome yet: run `headrace report`")
    confidence, user = _told_by(lake, use_case)
    said = {
        "version": number,
        **_valued(deployment, registry, version, _explored(lake, use_case)),
        "confidence": confidence,
        "intervals_over": user or "slates",
    }
    registry.keep_slate_value(version, said)
    write_result(lake, "slate_value", said)
    return said


def _valued(
    deployment: Deployment, registry: Registry, version: Version, rows: pa.Table
) -> dict[str, Any]:
    """The value by the version's own scores, and why slates are left out."""
    use_case = deployment.use_case
    with tempfile.TemporaryDirectory() as home:
        folder = registry.download(version, Path(home))
        manifest, engine = open_bundle(folder, version.digest), Engine(folder)
        verify_golden(folder, manifest, engine)
        scored = with_scores(rows, manifest, engine)
    told = _told_by(deployment.lake, use_case)
    value, left_out = unserved_value(scored, use_case.identity, *told)
    return {**value.as_dict(), "left_out": left_out}


def _unserved(registry: Registry, use_case: UseCase, rows: pa.Table) -> list[str]:
    """The versions on their way to serving, and the champion, but those that scored copies, and
    the one that answered all."""
    aliases = registry.aliases(use_case.name)
    answered = {*rows["version"].to_pylist()}
    told = {*rows["shadow_version"].to_pylist()} | (answered if len(answered) == 1 else set())
    staged = [aliases[stage] for stage in PATH if stage in aliases]
    return [number for number in staged if number not in told]


def _told_by(lake: Lake, use_case: UseCase) -> tuple[float, str | None]:
    """The confidence of intervals, and the column of the users they are over."""
    return use_case.declared.gates.confidence, told_user(DeltaTable(lake.predictions), use_case)


def told_user(table: DeltaTable, use_case: UseCase) -> str | None:
    """The column of the user, where the use case names one and the table has it: of a prediction
    only keys are kept."""
    user = use_case.declared.evaluation.user
    return user if user in {field.name for field in table.schema().fields} else None


def _explored(lake: Lake, use_case: UseCase) -> pa.Table:
    """Every candidate of requests whose order was drawn, with its label and shadow score, and what
    another version scores it by: `inputs` are null in what was logged before they were kept."""
    table, outcomes = DeltaTable(lake.predictions), DeltaTable(lake.outcomes)
    user, held = told_user(table, use_case), {field.name for field in table.schema().fields}
    if "label_q" not in {field.name for field in outcomes.schema().fields}:
        raise ValueError(f"{lake.outcomes}: lacks label_q: run `headrace report` to join it anew")
    wanted: list[str] = list(dict.fromkeys((*_READ, *use_case.identity, *([user] if user else []))))
    read = table.to_pyarrow_table(
        columns=[*wanted, *(name for name in _GIVEN if name in held)],
        filters=pc.field("temperature").is_valid(),
    )
    rows = read.select(wanted).append_column("at", pa.array(range(len(read)), pa.int64()))
    labels = outcomes.to_pyarrow_table(columns=["prediction_id", "label", "label_q"])
    rows = rows.join(labels, "prediction_id", join_type="left outer")
    if DeltaTable.is_deltatable(str(lake.shadow_scores)):
        shadow = DeltaTable(lake.shadow_scores).to_pyarrow_table()
        rows = rows.join(shadow, "prediction_id", join_type="left outer")
    else:
        for name, kind in (("shadow_version", pa.string()), ("shadow_score", pa.float64())):
            rows = rows.append_column(name, pa.nulls(len(rows), kind))
    # A join takes no lists.
    for name in _GIVEN:
        nothing = pa.chunked_array([pa.nulls(len(rows), pa.string())])
        given = read[name].take(rows["at"]) if name in held else nothing
        rows = rows.append_column(name, given)
    return rows.drop_columns("at")
