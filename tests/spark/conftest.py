"""Fixtures of the Spark plane's tests: the clicks use case and an empty lake."""

from pathlib import Path

import pytest

from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, load_use_case


@pytest.fixture(scope="session")
def clicks() -> UseCase:
    return load_use_case("clicks")


@pytest.fixture
def lake(tmp_path: Path, clicks: UseCase) -> Lake:
    return Lake(tmp_path / "root", clicks.name)
