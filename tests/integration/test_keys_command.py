"""`headrace keys …`, and what a server then takes from a key."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dagster_project.commands.keys import register
from data_contracts.clock import SystemClock
from serving.auth import Keys
from serving.limits import RateLimits
from serving.problem import Problem
from serving.quotas import Quotas


def headrace(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, ["keys", *arguments])
    return done.exit_code, done.output


def told(*arguments: str) -> Any:
    code, output = headrace(*arguments, "--json")
    assert 0 == code, output
    return json.loads(output)


def test_a_key_has_the_roles_and_limits_it_was_made_with(tmp_path: Path) -> None:
    root = ["--root", str(tmp_path)]
    limits = ["--rate", "2", "--quota", "1000"]
    made = told("create", "shop", "--role", "predict", "--role", "events", *limits, *root)
    caller = Keys(tmp_path / "keys.json").caller({"x-api-key": made["key"]})
    assert ("shop", {"predict", "events"}) == (caller.name, {*caller.roles})
    counted = RateLimits(SystemClock(), Quotas(tmp_path / "quotas.db", SystemClock()), lambda: 0.0)
    for _ in range(2):
        counted.take_rate(caller)
    with pytest.raises(Problem, match="more than 2 requests a second"):
        counted.take_rate(caller)
    (held,) = told("list", *root)["keys"]
    expected = {"name": "shop", "roles": ["events", "predict"], "rate": 2.0, "quota": 1000}
    assert expected == held
    assert made["key"] not in headrace("list", *root)[1]


def test_a_revoked_key_opens_nothing_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    root = ["--root", str(tmp_path)]
    key = told("create", "shop", "--role", "predict", *root)["key"]
    keys = Keys(tmp_path / "keys.json")
    assert "shop" == keys.caller({"x-api-key": key}).name
    assert {"revoked": "shop"} == told("revoke", "shop", *root)
    with pytest.raises(Problem, match="unknown API key"):
        keys.caller({"x-api-key": key})
    code, output = headrace("revoke", "shop", *root)
    assert (1, True) == (code, "keys are none" in output)


def test_a_key_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    wanted = ["create", "shop", "--role", "predict", "--root", str(tmp_path)]
    first = told(*wanted)["key"]
    code, output = headrace(*wanted)
    assert (1, True) == (code, "--replace" in output)
    assert first != told(*wanted, "--replace")["key"]
    assert 1 == len(told("list", "--root", str(tmp_path))["keys"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--role", "king"], "roles king"),
        (["--role", "predict", "--rate", "0"], "rate 0"),
        (["--role", "predict", "--rate", "nan"], "rate nan"),
        (["--role", "predict", "--quota", "0"], "quota 0"),
        (["--role", "predict", "--quota", str(10**22)], "at most"),
    ],
)
def test_a_key_that_could_do_nothing_is_not_made(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    code, output = headrace("create", "shop", *arguments, "--root", str(tmp_path))
    assert (2, True) == (code, said in output), output
    assert [] == told("list", "--root", str(tmp_path))["keys"]


def test_keys_made_before_there_were_limits_have_none(tmp_path: Path) -> None:
    key = told("create", "shop", "--role", "predict", "--root", str(tmp_path))["key"]
    path = tmp_path / "keys.json"
    stored = json.loads(path.read_text())["keys"]
    older = [{name: k[name] for name in ("name", "sha256", "roles")} for k in stored]
    path.write_text(json.dumps({"keys": older}))
    caller = Keys(path).caller({"x-api-key": key})
    assert (None, None) == (caller.rate, caller.quota)
