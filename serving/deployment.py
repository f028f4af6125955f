"""The same applications as Ray Serve deployments, from builders with typed arguments."""

# Ray's own types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Literal

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import LoggingConfig

from serving.root import root_app
from serving.server_log import ServerLog
from serving.settings import Settings

ROOT = "headrace"
"""Name of the application at `/`; those of the use cases have theirs."""

_CPUS = 0.1
"""What a replica reserves: the default of one CPU would leave nothing on a small machine."""

_PROBE_S = 5.0
_UP_S, _DOWN_S = 5.0, 120.0
"""How long there have to be too many, or too few, requests before a replica comes or goes."""


class UseCaseIngress:
    """One replica of a use case: its champion scores in this process, one hop from the proxy."""

    def __init__(self, settings: Settings) -> None:
        # Imported here: the driver and the root replica need neither Feast nor ONNX Runtime.
        from serving.replica import open_replica

        self._settings = settings
        # Opened here and not at the application's startup, whose errors Ray does not pass on.
        self._replica = open_replica(settings, serve.get_replica_context().replica_id.unique_id)

    def __serve_build_asgi_app__(self) -> FastAPI:
        from serving.app import use_case_app

        return use_case_app(self._settings, lambda: self._replica)

    async def status(self) -> Mapping[str, Any]:
        """What the replica says of itself; answers only once its bundle is verified and warm."""
        return self._replica.status()


class RootIngress:
    """The application beside the use cases."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name = settings.load().name
        self.server_log = ServerLog(settings.lake(), f"root-{secrets.token_hex(6)}")

    def __serve_build_asgi_app__(self) -> FastAPI:
        return root_app(self._settings, self._probe)

    async def _probe(self) -> Mapping[str, Any] | None:
        try:
            handle = serve.get_app_handle(self._name)
            return await asyncio.wait_for(handle.status.remote(), _PROBE_S)
        except Exception:
            # No application, no replica, no answer in time: each means not ready.
            return None


def use_case_application(settings: Settings) -> Application:
    """The application to run under the route prefix `/{use_case}`."""
    if settings.max_replicas is None:
        return _deployment(UseCaseIngress, settings.replicas).bind(settings)
    scaling = AutoscalingConfig(
        min_replicas=settings.replicas,
        max_replicas=settings.max_replicas,
        target_ongoing_requests=settings.target_in_flight,
        upscale_delay_s=_UP_S,
        downscale_delay_s=_DOWN_S,
    )
    return _deployment(UseCaseIngress, "auto", scaling).bind(settings)


def root_application(settings: Settings) -> Application:
    """The application to run under `/`."""
    return _deployment(RootIngress, 1).bind(settings)


def _deployment(
    ingress: type,
    replicas: int | Literal["auto"],
    scaling: AutoscalingConfig | None = None,
) -> serve.Deployment:
    configured = serve.deployment(
        name=ingress.__name__,
        num_replicas=replicas,
        autoscaling_config=scaling,
        max_ongoing_requests=1000,
        max_constructor_retry_count=1,
        graceful_shutdown_timeout_s=5.0,
        ray_actor_options={"num_cpus": _CPUS},
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )
    return configured(serve.ingress()(ingress))
