"""Dagster's own store, in the root folder, without telemetry."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from dagster_project.deployment import Deployment

_CONFIG = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"


def prepare_home(deployment: Deployment) -> None:
    """Write `dagster.yaml` where there is none."""
    home = deployment.lake.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(_CONFIG)


@contextmanager
def dagster_instance(deployment: Deployment) -> Iterator[dg.DagsterInstance]:
    """The instance whose runs `dagster dev` over the same root shows."""
    prepare_home(deployment)
    with dg.DagsterInstance.from_config(str(deployment.lake.dagster_home)) as instance:
        yield instance
