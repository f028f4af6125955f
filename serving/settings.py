"""What one server is told: small, printable values that survive JSON and a process boundary."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from data_contracts.clock import Clock, ReplayClock, SystemClock
from data_contracts.lake import Lake
from data_contracts.use_case import CONTRACT, UseCase, load_use_case

Device = Literal["cpu", "cuda", "auto"]
"""Where a model runs; `auto` is a GPU where onnxruntime offers one."""


def _absolute(reference: str) -> str:
    """A folder's path stays right in a process with another working directory."""
    folder = Path(reference)
    return str(folder.resolve()) if (folder / CONTRACT).is_file() else reference


class Settings(BaseModel):
    """Settings of a serving instance; the typed argument of the Ray application builders."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Annotated[Path, AfterValidator(Path.resolve)]
    """The lake's root folder."""
    use_case: Annotated[str, AfterValidator(_absolute)] = "clicks"
    """Name of a use case, or the path to its folder."""
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    """HTTP port; 0 takes a free one."""
    engine: Literal["ray", "plain"] = "ray"
    """`plain`: one process under uvicorn, for one node; `replicas` is 1 then."""
    tls_cert: Path | None = None
    """PEM file with the certificate and its chain; of the plain engine alone."""
    tls_key: Path | None = None
    clock: Literal["system", "replay"] = "system"
    """`replay`: requests of role operate may carry event times, and time stands where they do."""
    replicas: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    """Intra-op threads of one replica's scorer."""
    device: Device = "cpu"
    """Where the models run, chosen when one is loaded; its golden rows are checked there."""
    auth: bool = True
    """API keys are asked for; without them every caller has every role."""
    access_log: bool = False
    """A line a request in the lake's `access_log`, without personal data."""
    max_body_bytes: int = Field(default=1 << 20, ge=1)
    max_candidates: int = Field(default=1000, ge=1)
    max_events: int = Field(default=500, ge=1)
    max_in_flight: int = Field(default=200, ge=1)
    """Predict requests that one replica has under way at most; more are refused with 429."""
    timeout_ms: int = Field(default=2000, ge=1)
    """A request still unscored after this long is refused with 503."""

    candidate_timeout_ms: int = Field(default=250, ge=1)
    """A candidate that has not answered a request after this long leaves it to the champion."""
    candidate_hang_s: float = Field(default=2.0, gt=0)
    """A candidate's process that says nothing for this long is ended."""
    lease_s: float = Field(default=5.0, gt=0)
    """Without a sign of the rollout's controller for this long only the champion answers."""
    poll_s: float = Field(default=1.0, gt=0)
    """How often a replica looks for a new plan and says what it counted."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.engine == "plain" and self.replicas > 1:
            raise ValueError(
                f"replicas: {self.replicas}: the plain engine has one: use Ray for more"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert, tls_key: the one needs the other")
        if self.tls_cert is not None and self.engine != "plain":
            raise ValueError("tls_cert: Ray's proxy has none: put one before it, or serve --plain")
        return self

    def lake(self) -> Lake:
        """Where the use case's data lies."""
        return Lake(self.root, self.load().name)

    def load(self) -> UseCase:
        """The use case; ValueError naming what is missing or wrong."""
        return load_use_case(self.use_case)

    def make_clock(self) -> Clock:
        """A new clock of the declared kind."""
        return ReplayClock() if self.clock == "replay" else SystemClock()
