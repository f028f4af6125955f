"""Fixtures of the Spark plane's tests: the clicks use case, an empty lake, a Kafka broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, load_use_case
from tests.kafka_broker import Broker


@pytest.fixture(scope="session")
def clicks() -> UseCase:
    return load_use_case("clicks")


@pytest.fixture
def lake(tmp_path: Path, clicks: UseCase) -> Lake:
    return Lake(tmp_path / "root", clicks.name)


@pytest.fixture(scope="session")
def broker(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    found = Broker(spark, tmp_path_factory.mktemp("kafka") / "broker")
    try:
        found.start()
        yield found
    finally:
        found.kill()
