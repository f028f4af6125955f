"""Stage exploration: what other orders would have been worth, by the slates that were drawn."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from dagster_project.deployment import Deployment
from data_contracts.lake import Lake
from data_contracts.results import write_result
from data_contracts.use_case import UseCase
from training.exploration import explored_values

_READ = ("prediction_id", "request_id", "version", "score", "rank", "boost",
         "slot_propensity", "slate_propensity", "temperature")  # fmt: skip


def value_exploration(deployment: Deployment) -> dict[str, Any]:
    """Target policy to its value over the slates whose labels have matured; {} where the use case
    does not explore, or nothing of it has matured."""
    use_case, lake = deployment.use_case, deployment.lake
    if use_case.declared.exploration is None:
        return {}
    confidence = use_case.declared.gates.confidence
    table = DeltaTable(lake.predictions)
    user = told_user(table, use_case)
    rows = _explored(lake, table, [*use_case.identity, *([user] if user else [])])
    values = explored_values(rows, use_case.identity, confidence, user) if len(rows) else {}
    result = {name: value.as_dict() for name, value in values.items()}
    said = {"values": result, "confidence": confidence, "intervals_over": user or "slates"}
    write_result(lake, "exploration", said)
    return result


def told_user(table: DeltaTable, use_case: UseCase) -> str | None:
    """The column of the user, where the use case names one and the table has it: of a prediction
    only keys are kept."""
    user = use_case.declared.evaluation.user
    return user if user in {field.name for field in table.schema().fields} else None


def _explored(lake: Lake, table: DeltaTable, keys: list[str]) -> pa.Table:
    """Every candidate of requests whose order was drawn, with its label and shadow score."""
    rows = table.to_pyarrow_table(
        columns=list(dict.fromkeys((*_READ, *keys))), filters=pc.field("temperature").is_valid()
    )
    labels = DeltaTable(lake.outcomes).to_pyarrow_table(columns=["prediction_id", "label"])
    rows = rows.join(labels, "prediction_id", join_type="left outer")
    if not DeltaTable.is_deltatable(str(lake.shadow_scores)):
        return rows.append_column("shadow_version", pa.nulls(len(rows), pa.string())).append_column(
            "shadow_score", pa.nulls(len(rows), pa.float64())
        )
    shadow = DeltaTable(lake.shadow_scores).to_pyarrow_table()
    return rows.join(shadow, "prediction_id", join_type="left outer")
