"""Runs and versions as training writes them: MLflow's only file on this side."""

import hashlib
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.bundle import Manifest, open_bundle
from data_contracts.file_lock import locked
from data_contracts.gates import Decision
from data_contracts.lake import Lake
from data_contracts.version_registry import (
    BUNDLE,
    BUNDLE_DIGEST,
    CONTINUED,
    VARIANTS,
    Version,
    VersionRegistry,
)
from data_contracts.views import joint_digest
from training.code_version import code_version, environment, environment_digest
from training.run_record import RunRecord

SCHEMA = "MLmodel"
"""Artifact of a run, beside its bundle: the signature, where MLflow's page of a version looks."""
_VARIANT = "variant."
"""What the tag with a variant's digest begins with."""
_SLATE_VALUE = "slate_value"
"""Tag of a version: its value by explored slates, as JSON."""
CERTIFICATE = "parity_certificate.json"
"""Artifact of a run: the proof that the engines agree on its features."""
_COPIED = ("simulated", CONTINUED)
"""Tags of a run that its version has too."""
_AT_ONCE = 1000
"""Most figures that MLflow takes at once."""


class Registry(VersionRegistry):
    """Runs and versions of a lake; nothing is sent anywhere, no folder but the lake's is used."""

    def __init__(self, lake: Lake) -> None:
        # Read by mlflow when it is imported, which is why that happens below and not above.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        lake.mlflow_artifacts.mkdir(parents=True, exist_ok=True)
        self._artifacts = lake.mlflow_artifacts.as_uri()
        # The first to open it makes its tables, which two at once cannot.
        with locked(lake.mlflow_lock):
            super().__init__(MlflowClient(lake.mlflow_uri, lake.mlflow_uri))

    def log_run(self, record: RunRecord, folder: Path, bundle: Path) -> str:
        """Record a training, every file in `folder` and its bundle; returns the run id."""
        from mlflow.entities import Param, RunTag

        manifest = record.manifest
        run = self._client.create_run(
            self.experiment(manifest.use_case), record.began_ms, run_name=manifest.model
        )
        run_id = run.info.run_id
        tags = {
            "dataset_digest": record.dataset_digest,
            "delta_version": record.delta_version,
            "contract_version": manifest.contract_version,
            "definitions": joint_digest(manifest.feature_digests),
            **{f"delta_version.{name}": version for name, version in record.made_of.items()},
            **({"simulated": "true"} if record.simulated else {}),
            CONTINUED: record.continued_from or "none",
            **({"notes": "; ".join(record.notes)} if record.notes else {}),
            **_code_tags(),
        }
        self._log_figures(run_id, _figures(record, int(time.time() * 1000)))
        self._client.log_batch(
            run_id,
            [],
            [Param(name, str(value)) for name, value in record.params.items()],
            [RunTag(name, str(value)) for name, value in tags.items()],
        )
        self._client.log_inputs(run_id, [_dataset(record)])
        self._client.log_dict(run_id, environment(), "environment.json")
        self._client.log_text(run_id, _signature(manifest, run_id), SCHEMA)
        self._client.log_artifacts(run_id, str(folder))
        self._client.log_artifacts(run_id, str(bundle), BUNDLE)
        return run_id

    def trained_on(self, version: Version) -> int:
        """Delta version of the training set that `version` was fitted on; ValueError where its run
        does not tell."""
        return int(self._told(version, "delta_version"))

    def definitions(self, version: Version) -> str:
        """Joint digest of the features that `version` takes; ValueError as `trained_on`."""
        return self._told(version, "definitions")

    def _told(self, version: Version, tag: str) -> str:
        told = self._client.get_run(version.run_id).data.tags.get(tag)
        if told is None:
            raise ValueError(
                f"model {version.name} version {version.version}: its run has no tag {tag}: "
                "train again"
            )
        return told

    def log_search(
        self,
        use_case: str,
        parent: str,
        trials: Sequence[tuple[Mapping[str, Any], float, Sequence[float]]],
    ) -> None:
        """Record each trial of a search as a run below the run `parent`: its choices, the
        validation log loss of its best epoch, and that after each epoch from 0."""
        from mlflow.entities import Metric, Param

        for number, (choices, validation, curve) in enumerate(trials):
            tags = {"mlflow.parentRunId": parent}
            name, home = f"trial {number}", self.experiment(use_case)
            run = self._client.create_run(home, run_name=name, tags=tags).info
            figures = [("validation", validation, 0)]
            figures += [("validation.curve", loss, epoch) for epoch, loss in enumerate(curve)]
            told = [Metric(key, value, run.start_time, step) for key, value, step in figures]
            self._log_figures(run.run_id, told)
            params = [Param(choice, str(value)) for choice, value in choices.items()]
            self._client.log_batch(run.run_id, [], params)
            self._client.set_terminated(run.run_id)

    def register(self, name: str, run_id: str, digest: str, decision: Decision) -> str:
        """Register the bundle of a run as the next version of model `name`, with what was decided
        about it; returns its number."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        decided = replace(decision, bundle=digest).as_dict()
        self._client.log_dict(run_id, decided, "decision.json")
        run = self._client.get_run(run_id)
        tags = {
            BUNDLE_DIGEST: digest,
            "model": str(run.info.run_name),
            "verdict": decision.verdict,
            "decision": json.dumps(decided),
            **{name: text for name, text in run.data.tags.items() if name in _COPIED},
        }
        home = str(run.info.artifact_uri)
        created = self._client.create_model_version(name, home, run_id, tags=tags)
        self._client.set_terminated(run_id)
        return str(created.version)

    def manifest(self, version: Version) -> Manifest:
        """What a version's bundle, verified, says of itself."""
        with tempfile.TemporaryDirectory() as home:
            return open_bundle(self.download(version, Path(home)), version.digest)

    def features(self, version: Version) -> dict[str, str]:
        """Feature -> digest of what a version takes, as its bundle's manifest says."""
        return dict(self.manifest(version).feature_digests)

    def dataset(self, version: Version) -> str:
        """Digest of the training set that a version was fitted and tested on."""
        return str(self._client.get_run(version.run_id).data.tags.get("dataset_digest", ""))

    def attach_certificate(self, version: Version, certificate: Mapping[str, Any]) -> bool:
        """Attach a parity certificate (`spark_jobs.proof`) to a version, as an artifact of its run
        and tags, if it is of the version's definitions and holds; returns whether that is so."""
        if self.features(version) != certificate["feature_digests"] or not certificate["holds"]:
            return False
        text = json.dumps(certificate, sort_keys=True)
        self._client.log_dict(version.run_id, dict(certificate), CERTIFICATE)
        figures = ("log_digest", "schedules", "spark_schedules", "kill_signals", "compared")
        said = {name: str(certificate[name]) for name in (*figures, "mismatches", "holds")}
        said |= certificate["code"]
        said["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        for name, value in said.items():
            self._client.set_model_version_tag(
                version.name, version.version, f"parity.{name}", value
            )
        return True

    def keep_slate_value(self, version: Version, said: Mapping[str, Any]) -> None:
        """Keep what explored slates tell of a version (`training.exploration`) as its tag."""
        told = json.dumps(said, allow_nan=False)
        self._client.set_model_version_tag(version.name, version.version, _SLATE_VALUE, told)

    def slate_value(self, version: Version) -> dict[str, Any] | None:
        """What `keep_slate_value` kept last; None before that."""
        told = self._of(version.name, version.version).tags.get(_SLATE_VALUE)
        return None if told is None else json.loads(told)

    def keep_variants(
        self, version: Version, offered: Mapping[str, tuple[Path, str]], measured: Collection[str]
    ) -> None:
        """Keep sealed variants, name -> (folder, digest), under `variants/` beside a version's
        bundle, their digests as tags; what was `measured` and is not offered any more loses its
        tag."""
        number = version.name, version.version
        for name, (folder, digest) in offered.items():
            self._client.log_artifacts(version.run_id, str(folder), f"{VARIANTS}/{name}")
            self._client.set_model_version_tag(*number, f"{_VARIANT}{name}", digest)
        for name in self.variants(version).keys() & {*measured} - offered.keys():
            self._client.delete_model_version_tag(*number, f"{_VARIANT}{name}")

    def variants(self, version: Version) -> dict[str, str]:
        """Variant -> digest of its bundle, of those kept beside a version's own."""
        tags = self._client.get_model_version(version.name, version.version).tags
        return {k.removeprefix(_VARIANT): v for k, v in tags.items() if k.startswith(_VARIANT)}

    def _log_figures(self, run_id: str, figures: Sequence[Any]) -> None:
        for at in range(0, len(figures), _AT_ONCE):
            self._client.log_batch(run_id, figures[at : at + _AT_ONCE])

    def experiment(self, name: str) -> str:
        """Id of the experiment that holds a use case's runs, made where there is none."""
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        return self._client.create_experiment(name, f"{self._artifacts}/{name}")


def _figures(record: RunRecord, now: int) -> list[Any]:
    from mlflow.entities import Metric

    estimates = {
        f"{model}.{name}{suffix}": figure
        for model, metrics in record.metrics.items()
        for name, estimate in metrics.items()
        for suffix, figure in (
            ("", estimate.value),
            (".low", estimate.low),
            (".high", estimate.high),
        )
    }
    curves = {name: [figure] for name, figure in estimates.items()} | dict(record.curves)
    return [
        Metric(name, figure, now, epoch)
        for name, curve in curves.items()
        for epoch, figure in enumerate(curve)
        if not math.isnan(figure)
    ]


def _dataset(record: RunRecord) -> Any:
    from mlflow.entities import Dataset, DatasetInput

    source = json.dumps({"path": str(record.training_set), "version": record.delta_version})
    name = f"{record.manifest.use_case}.training_set"
    return DatasetInput(Dataset(name, record.dataset_digest, "delta", source))


def _signature(manifest: Manifest, run_id: str) -> str:
    """A model of MLflow without a flavor: a signature, and nothing that could be loaded."""
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    dense = len(manifest.features) + len(manifest.numeric)
    inputs = [
        TensorSpec(np.dtype(np.int64), (-1, len(manifest.categorical)), "ids"),
        TensorSpec(np.dtype(np.float32), (-1, dense), "dense"),
    ]
    output = TensorSpec(np.dtype(np.float32), (-1,), "score")
    signature = ModelSignature(Schema(list(inputs)), Schema([output]))
    return Model(run_id=run_id, flavors={}, signature=signature).to_yaml()


def _code_tags() -> dict[str, str]:
    """What ran, and its commit, under the names that MLflow's UI shows as a run's source."""
    code = code_version()
    tags = {
        "mlflow.source.name": "headrace train",
        "mlflow.source.type": "LOCAL",
        "code_version": code["package"],
        "environment_sha256": environment_digest(environment()),
    }
    if "commit" in code:
        tags |= {"mlflow.source.git.commit": code["commit"], "code_dirty": code["dirty"]}
    return tags
