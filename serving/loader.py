"""The registry's side of serving: the champion's bundle, downloaded and verified before use."""

import os
from dataclasses import dataclass
from pathlib import Path

from data_contracts.bundle import GRAPH, BundleRefused, Manifest, open_bundle
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase

ALIAS = "champion"
TAG = "bundle_sha256"
ARTIFACT = "bundle"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle of one registered version."""

    name: str
    version: str
    digest: str
    """The digest under which the version is registered."""
    manifest: Manifest
    folder: Path

    @property
    def graph(self) -> Path:
        return self.folder / GRAPH


def load_champion(use_case: UseCase, lake: Lake, folder: Path) -> Bundle:
    """Download the champion of `use_case` into `folder` and verify it.

    Raises BundleRefused naming what is missing or differs: no champion, no digest tag, a member
    that is not what was registered, other inputs or another contract.
    """
    # Imported here: it takes seconds, and only the start of a replica needs it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=lake.mlflow_uri, registry_uri=lake.mlflow_uri)
    try:
        version = client.get_model_version_by_alias(use_case.name, ALIAS)
    except MlflowException as error:
        raise BundleRefused(
            f"model {use_case.name}: no version has the alias {ALIAS}: run `headrace train`"
        ) from error
    label = f"model {use_case.name} version {version.version}"
    digest = version.tags.get(TAG)
    if not digest or not version.run_id:
        raise BundleRefused(f"{label}: has no tag {TAG} or no run: register it again")
    try:
        client.download_artifacts(version.run_id, ARTIFACT, str(folder))
    except (MlflowException, OSError) as error:
        raise BundleRefused(f"{label}: its bundle cannot be read: {error}") from error
    try:
        manifest = open_bundle(folder / ARTIFACT, digest)
        check_definitions(use_case, manifest)
    except BundleRefused as error:
        raise BundleRefused(f"{label}: {error}") from error
    return Bundle(use_case.name, str(version.version), digest, manifest, folder / ARTIFACT)


def check_definitions(use_case: UseCase, manifest: Manifest) -> None:
    """Raise BundleRefused unless the bundle takes the inputs that are served here.

    Its features may be of older definitions: the reader finds the views that hold them.
    """
    differences = {
        "use case": (manifest.use_case, use_case.name),
        "contract version": (manifest.contract_version, use_case.contract.version),
        "categorical inputs": (
            manifest.categorical,
            tuple((c.field, c.buckets) for c in use_case.model.categorical),
        ),
        "numeric inputs": (
            manifest.numeric,
            tuple((n.field, n.default) for n in use_case.model.numeric),
        ),
    }
    for what, (trained, served) in differences.items():
        if trained != served:
            raise BundleRefused(
                f"{what}: trained on {trained}, serving {served}: run `headrace train`"
            )
