"""Dagster's own store, in the root folder, without telemetry."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.instance.ref import InstanceRef

from dagster_project.deployment import Deployment

_CONFIG = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"
_UNCAPTURED = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}


def prepare_home(deployment: Deployment) -> None:
    """Write `dagster.yaml` where there is none."""
    home = deployment.lake.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(_CONFIG)


@contextmanager
def dagster_instance(deployment: Deployment) -> Iterator[dg.DagsterInstance]:
    """The instance whose runs `dagster dev` over the same root shows.

    What a step prints stays in this terminal: captured, four processes a step would bring it here.
    """
    prepare_home(deployment)
    ref = InstanceRef.from_dir(str(deployment.lake.dagster_home), overrides=_UNCAPTURED)
    with dg.DagsterInstance.from_ref(ref) as instance:
        yield instance
