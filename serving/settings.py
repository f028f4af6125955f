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


MOST_REPLICAS = 32
"""An instance has twice as many ports for them: one that comes may overlap one that goes."""


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
    replicas: int = Field(default=1, ge=1, le=MOST_REPLICAS)
    """How many there are; with `max_replicas` how many there are at least."""
    max_replicas: int | None = Field(default=None, le=MOST_REPLICAS)
    """With it replicas come while requests queue up, to this many, and go when they are idle."""
    target_in_flight: float = Field(default=1.5, gt=0)
    """Requests under way in a replica, on average, that replicas come and go for. Above what a
    replica lets in, a quarter of the deadline in times of an answer, none would ever come."""
    production: bool = False
    """Refuse what no users should be served by: one replica, a clock that clients set, no keys."""
    threads: int = Field(default=1, ge=1)
    """Intra-op threads of one replica's scorer."""
    device: Device = "cpu"
    """Where the models run, chosen when one is loaded; its golden rows are checked there."""
    auth: bool = True
    """API keys are asked for; without them every caller has every role."""
    access_log: bool = False
    """A line a request in the lake's `access_log`, without personal data."""
    max_body_bytes: int = Field(default=1 << 20, ge=1)
    body_s: float = Field(default=10.0, gt=0)
    """A body that is not there after this long is refused with 408; that of a request to a model
    has `timeout_ms`."""
    max_candidates: int = Field(default=1000, ge=1)
    max_events: int = Field(default=500, ge=1)
    max_in_flight: int = Field(default=200, ge=1)
    """Predict requests, and beside them requests with events, that one replica has under way at
    most; more are refused with 429."""
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
        most = self.max_replicas or self.replicas
        if most < self.replicas:
            raise ValueError(f"max_replicas: {most}: at least replicas, which is {self.replicas}")
        if self.engine == "plain" and most > 1:
            raise ValueError(f"replicas: {most}: the plain engine has one: use Ray for more")
        if self.production:
            self._check_production()
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert, tls_key: the one needs the other")
        if self.tls_cert is not None and self.engine != "plain":
            raise ValueError("tls_cert: Ray's proxy has none: put one before it, or serve --plain")
        return self

    def _check_production(self) -> None:
        """Raise ValueError naming what is not fit for it."""
        if self.replicas < 2:
            raise ValueError(
                f"replicas: {self.replicas}: production needs two, so that one may die: "
                "take 2 or more, with Ray"
            )
        if self.clock != "system":
            raise ValueError(f"clock: {self.clock}: in production time is the system's")
        if not self.auth:
            raise ValueError("auth: off: production asks for API keys")

    def lake(self) -> Lake:
        """Where the use case's data lies."""
        return Lake(self.root, self.load().name)

    def load(self) -> UseCase:
        """The use case; ValueError naming what is missing or wrong."""
        return load_use_case(self.use_case)

    def make_clock(self) -> Clock:
        """A new clock of the declared kind."""
        return ReplayClock() if self.clock == "replay" else SystemClock()
