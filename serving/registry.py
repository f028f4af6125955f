"""MLflow's registry as serving knows it: versions, aliases, the ledger's stamp, bundles."""

# mlflow's types are partial:
# pyright: reportUnknownMemberType=false

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_contracts.bundle import BundleRefused
from data_contracts.file_lock import locked
from data_contracts.lake import Lake
from data_contracts.registered import NotRegistered
from data_contracts.rollout import Target

DIGEST = "bundle_sha256"
"""Tag of a version: the digest of its bundle's manifest."""
ARTIFACT = "bundle"
_STAMP = "ledger_head"


class Registry:
    """The versions of a lake. Whatever MLflow raises when it cannot be reached comes through."""

    def __init__(self, lake: Lake) -> None:
        # Imported here: it takes seconds, and only who loads or moves a version needs it.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow import MlflowClient

        # The first to open it makes its tables, which two at once cannot.
        with locked(lake.mlflow_lock):
            self._client = MlflowClient(tracking_uri=lake.mlflow_uri, registry_uri=lake.mlflow_uri)

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version of model `name`, read at once; empty when nothing is registered."""
        found = self._model(name)
        return {alias: str(version) for alias, version in found.aliases.items()} if found else {}

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """Point `alias` of model `name` at `version`, or delete it."""
        if version is None:
            self._client.delete_registered_model_alias(name, alias)
        else:
            self._client.set_registered_model_alias(name, alias, version)

    def version(self, name: str, number: str) -> Target:
        """One version of model `name`; NotRegistered where there is none of that number,
        BundleRefused where its bundle has no digest."""
        found = self._version(name, number)
        digest = found.tags.get(DIGEST)
        if not digest or not found.run_id:
            raise BundleRefused(
                f"model {name} version {number}: has no tag {DIGEST} or no run: register it again"
            )
        return Target(number, digest)

    def newest(self, name: str) -> str | None:
        """The highest version of model `name`; None where nothing is registered."""
        found = self._client.search_model_versions(f"name = '{name}'")
        return max((str(version.version) for version in found), key=int, default=None)

    def decided(self, name: str, number: str) -> Mapping[str, Any] | None:
        """The decision under which a version was registered, as `Decision.as_dict` gave it;
        NotRegistered, or BundleRefused where the tag does not hold one."""
        tags = self._version(name, number).tags
        try:
            return json.loads(tags["decision"]) if "decision" in tags else None
        except ValueError as error:
            label = f"model {name} version {number}"
            raise BundleRefused(
                f"{label}: its tag decision is no JSON ({error}): register it again"
            ) from error

    def stamp(self, name: str) -> str | None:
        """What `set_stamp` wrote last; None before that."""
        found = self._model(name)
        return found.tags.get(_STAMP) if found else None

    def set_stamp(self, name: str, stamp: str) -> None:
        """Write the stamp of the ledger's last row beside the model's versions."""
        self._client.set_registered_model_tag(name, _STAMP, stamp)

    def download(self, name: str, number: str, folder: Path) -> Path:
        """Copy the bundle of a version below `folder`, unverified; returns where it lies.

        Raises BundleRefused when it cannot be read.
        """
        from mlflow.exceptions import MlflowException

        run = self._version(name, number).run_id
        try:
            return Path(self._client.download_artifacts(str(run), ARTIFACT, str(folder)))
        except (MlflowException, OSError) as error:
            raise BundleRefused(f"its bundle cannot be read: {error}") from error

    def _version(self, name: str, number: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_model_version(name, number)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise NotRegistered(f"model {name} version {number}: is not registered") from None

    def _model(self, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
