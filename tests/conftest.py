"""Session-wide: libraries that phone home are told not to, and one warm Spark session."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dagster_project.quiet import SILENCE
from tests.redis_server import RedisServer

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def pytest_configure() -> None:
    os.environ.update(SILENCE)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SparkSession"]:
    from spark_jobs.session import spark_session

    session = spark_session(tmp_path_factory.mktemp("spark") / "spark.log")
    # A test's few rows cost less than compiling their projections; the demo's tests compile them.
    session.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests that do not harm it; lakes have projects of their own in it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One that a test may harm."""
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()
