"""MLflow as the server opens it: to read versions, and to move their aliases."""

# mlflow's types are partial:
# pyright: reportUnknownMemberType=false

import os

from data_contracts.file_lock import locked
from data_contracts.lake import Lake
from data_contracts.version_registry import VersionRegistry


class Registry(VersionRegistry):
    """The versions of a lake."""

    def __init__(self, lake: Lake) -> None:
        # Imported here: it takes seconds, and only who loads or moves a version needs it.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow import MlflowClient

        # The first to open it makes its tables, which two at once cannot.
        with locked(lake.mlflow_lock):
            client = MlflowClient(tracking_uri=lake.mlflow_uri, registry_uri=lake.mlflow_uri)
        super().__init__(client)
