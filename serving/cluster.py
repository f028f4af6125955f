"""A Ray of one node for one instance, with the applications running on it."""

# Ray's own types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import logging
import os
import signal
from pathlib import Path

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from serving.deployment import ROOT, root_application, use_case_application
from serving.processes import descendants, named, told
from serving.settings import Settings

_OBJECT_STORE = 80 * 1024 * 1024
"""Bytes; nothing large travels through it, and less is refused."""


def start(settings: Settings, folder: Path, port: int) -> None:
    """Start Ray in `folder` and run the applications on `port`; returns when they run.

    Raises RuntimeError with the replica's error when an application does not start.
    """
    ray.init(
        address="local",
        num_cpus=1 + (settings.max_replicas or settings.replicas) // 5,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE,
        log_to_driver=False,
        logging_level=logging.WARNING,
        _temp_dir=str(folder / "r"),
    )
    serve.start(http_options=HTTPOptions(host=settings.host, port=port))
    name = settings.load().name
    try:
        serve.run_many(
            [
                serve.RunTarget(use_case_application(settings), name=name, route_prefix=f"/{name}"),
                serve.RunTarget(root_application(settings), name=ROOT, route_prefix="/"),
            ]
        )
    except RuntimeError as error:
        raise RuntimeError(_reasons() or str(error)) from error


def _reasons() -> str:
    """The errors for which deployments do not run, one a line."""
    messages = [
        deployment.message.strip()
        for application in serve.status().applications.values()
        for deployment in application.deployments.values()
    ]
    return "\n".join(message.splitlines()[-1] for message in messages if message)


def stop(within_s: float) -> None:
    """Let the proxy answer what it has, for so long, then drain the replicas and stop Ray, which
    kills its proxy first and whatever is under way in it. An idle connection of a client holds the
    proxy all that time."""
    if ray.is_initialized():
        for pid in descendants(os.getpid()):
            if named(pid) == "haproxy":
                told(pid, signal.SIGUSR1, within_s)
        serve.shutdown()
        ray.shutdown()
