"""Where Redis lies is told by one variable, and its password is never shown."""

import json
from pathlib import Path

import pytest
import typer

from dagster_project.commands.doctor import doctor
from dagster_project.deployment import Deployment
from data_contracts.redis_address import RedisAddress

SECRET = "s3cret,$HOME\"'\\ é=:/@?#%"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", RedisAddress("localhost")),
        ("redis://10.0.0.7:6380/2", RedisAddress("10.0.0.7", 6380, 2)),
        ("redis://:p%3Aw@cache.example/", RedisAddress("cache.example", password="p:w")),
        ("redis://me:pw@cache:1/0", RedisAddress("cache", 1, 0, "me", "pw")),
    ],
)
def test_an_address_is_read(url: str, address: RedisAddress) -> None:
    assert address == RedisAddress.parse(url)


def test_an_address_survives_its_url() -> None:
    address = RedisAddress("cache", 6380, 4, "us er", SECRET)
    assert address == RedisAddress.parse(address.url)


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:6379", "http://:s3cret@cache", "rediss://:s3cret@cache", "redis://",
        "redis://:s3/cret@cache", "redis://:s3cret@cache:port", "redis://:s3cret@cache:99999",
        "redis://:s3cret@cache/main", "redis://:s3cret@[::1]/0", "redis://:s3cret@cache/0?a=1",
        "redis://:s3cret@ca,che/0", "redis://:s3cret@cache/0#1",
    ],
)  # fmt: skip
def test_whatever_else_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the address of Redis is not like redis://") as error:
        RedisAddress.parse(url)
    assert "s3" not in str(error.value)
    assert None is error.value.__context__


def test_no_text_of_it_shows_the_password(tmp_path: Path) -> None:
    url = RedisAddress("cache", 6380, 4, "me", "s3cret").url
    deployment = Deployment("clicks", tmp_path, redis=url)
    shown = [deployment, deployment.lake, deployment.lake.redis, str(deployment.lake.redis)]
    assert "redis://cache:6380/4" == shown[-1]
    assert [] == [text for text in map(repr, shown) if "s3cret" in text]


def test_a_deployment_carries_it_into_another_process(tmp_path: Path) -> None:
    deployment = Deployment("clicks", tmp_path, redis="redis://:pw@cache:6380/4")
    again = Deployment.from_environment(deployment.environment())
    assert RedisAddress("cache", 6380, 4, password="pw") == again.lake.redis
    assert None is Deployment.from_environment({"HEADRACE_USE_CASE": "clicks"}).lake.redis


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://:s3cret@127.0.0.1:1/2", "redis://127.0.0.1:1/2: Error 111 connecting to "),
        ("redis://:s3/cret@cache", "HEADRACE_REDIS: the address of Redis is not like redis://"),
    ],
)
def test_doctor_names_the_store_that_does_not_answer(
    url: str,
    found: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HEADRACE_REDIS", url)
    with pytest.raises(typer.Exit):
        doctor(use_case="clicks", root=tmp_path, json=True)
    told = capsys.readouterr().out
    store = json.loads(told)["online store"]
    assert (False, found) == (store["ok"], store["found"][: len(found)])
    assert "s3" not in told
