"""Which use case, which root: the one settings object of assets, commands and tests."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pyspark.sql import SparkSession

from data_contracts.kafka import KafkaTopic
from data_contracts.lake import Lake
from data_contracts.naming import naming
from data_contracts.redis_address import RedisAddress
from data_contracts.use_case import CONTRACT, UseCase, load_use_case
from spark_jobs.session import spark_session

USE_CASE, ROOT, LOG, STEP = "HEADRACE_USE_CASE", "HEADRACE_ROOT", "HEADRACE_LOG", "HEADRACE_STEP"
KAFKA, REDIS = "HEADRACE_KAFKA", "HEADRACE_REDIS"
"""Environment variables that carry a deployment into `dagster dev`; every command reads the last
one, whose password is kept off its arguments."""


@dataclass(frozen=True)
class Deployment:
    """A use case over a root folder."""

    reference: str = "clicks"
    """Name of a use case, or the path to its folder."""
    root: Path = Path(".headrace")
    log: Path | None = None
    """The raw log; the use case's embedded one when None."""
    step: str = "30m"
    """Simulated time of a step of the replay."""
    wait: bool = True
    """Whether the replay waits for the stream after every step."""
    kafka: str | None = None
    """`kafka://host:port/topic`, which the stream takes beside the landing log."""
    redis: str = field(default_factory=lambda: os.environ.get(REDIS, ""), repr=False)
    """`redis://…` where online state lies; empty for SQLite in the root folder."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Deployment":
        """The deployment that `environment` names; defaults where it is silent."""
        log, step = environment.get(LOG), environment.get(STEP, cls.step)
        root = Path(environment.get(ROOT, str(cls.root)))
        reference = environment.get(USE_CASE, cls.reference)
        kafka, redis = environment.get(KAFKA) or None, environment.get(REDIS, "")
        return cls(reference, root, Path(log) if log else None, step, kafka=kafka, redis=redis)

    def environment(self) -> dict[str, str]:
        """The variables from which `from_environment` makes this deployment again."""
        reference = self.reference
        if (Path(reference) / CONTRACT).is_file():
            reference = str(Path(reference).resolve())
        found = {USE_CASE: reference, ROOT: str(self.root.resolve()), STEP: self.step,
                 KAFKA: self.kafka or ""}  # fmt: skip
        told = {LOG: str(self.log.resolve()) if self.log else "", REDIS: self.redis}
        return {**found, **{name: value for name, value in told.items() if value}}

    @cached_property
    def use_case(self) -> UseCase:
        return load_use_case(self.reference)

    @cached_property
    def lake(self) -> Lake:
        """Where the data lies; ValueError when the address of Redis is none."""
        kafka = KafkaTopic.parse(self.kafka) if self.kafka else None
        with naming(REDIS):
            redis = RedisAddress.parse(self.redis) if self.redis else None
        return Lake(self.root.resolve(), self.use_case.name, kafka, redis)

    @cached_property
    def spark(self) -> SparkSession:
        """The process's warm session, started on first use; its JVM logs to the root folder."""
        return spark_session(self.root.resolve() / "spark.log")

    @property
    def label(self) -> dict[str, bool]:
        """What every result of a simulated use case says first; empty for a real one."""
        return {"simulated": True} if self.use_case.declared.simulated else {}

    @property
    def raw_log(self) -> Path:
        """The raw log to import; ValueError when none is named and none is embedded."""
        log = self.log or self.use_case.log
        if log is None:
            raise ValueError(f"use case {self.use_case.name} embeds no log: name one with --log")
        return log
