"""The model: a point-in-time training set, and the version trained on it."""

import dagster as dg

from dagster_project.partitions import deployment
from dagster_project.stages.model import build_point_in_time, train_model


@dg.asset(
    deps=["events"],
    group_name="training",
    kinds={"spark", "deltalake"},
    owners=["team:ml"],
    code_version="1",
)
def training_set() -> dg.MaterializeResult:
    """One row per mature label row, its features as they stood at its query time."""
    return dg.MaterializeResult(metadata=build_point_in_time(deployment()))


@dg.asset(
    deps=["training_set"],
    group_name="training",
    kinds={"pytorch", "mlflow", "onnx"},
    owners=["team:ml"],
    code_version="1",
)
def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """A registered version with its evidence; champion when its gates allow."""
    found = train_model(deployment())
    for note in found["notes"]:
        context.log.warning(note)
    metrics = found["metrics"][found["model"]]
    numbers = {name: value["value"] for name, value in metrics.items()}
    return dg.MaterializeResult(
        metadata={
            "version": found["version"],
            "promoted": found["promoted"],
            "continued_from": found["continued_from"] or "none",
            "notes": "; ".join(found["notes"]) or "none",
            "decision": dg.JsonMetadataValue(found["decision"]),
            **{name: value for name, value in numbers.items() if value is not None},
        }
    )
