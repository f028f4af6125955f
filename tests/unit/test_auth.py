import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import pytest

from serving.auth import Keys, create_key, demand, revoke_key
from serving.problem import Problem


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_key_gives_the_roles_it_was_made_with(path: Path) -> None:
    key = create_key(path, ["predict", "events"], "shop")
    assert frozenset({"predict", "events"}) == Keys(path).caller(bearer(key)).roles
    assert frozenset({"predict", "events"}) == Keys(path).caller({"x-api-key": key}).roles


def test_the_file_holds_no_key_and_is_for_its_owner_alone(path: Path) -> None:
    key = create_key(path, ["predict"], "shop")
    assert key not in path.read_text()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert len(key) * 6 >= 128


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Basic eA=="}, bearer(""), bearer("hr_wrong")]
)
def test_without_a_known_key_nobody_gets_in(path: Path, headers: dict[str, str]) -> None:
    create_key(path, ["predict"], "shop")
    with pytest.raises(Problem) as refused:
        Keys(path).caller(headers)
    assert HTTPStatus.UNAUTHORIZED == refused.value.status


def test_without_a_file_nobody_gets_in(path: Path) -> None:
    with pytest.raises(Problem, match="unknown API key"):
        Keys(path).caller(bearer("hr_any"))


def test_a_key_made_or_removed_later_counts_at_once(path: Path) -> None:
    first = create_key(path, ["predict"], "first")
    keys = Keys(path)
    keys.caller(bearer(first))
    second = create_key(path, ["events"], "second")
    assert frozenset({"events"}) == keys.caller(bearer(second)).roles
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({"keys": [k for k in stored["keys"] if k["name"] != "first"]}))
    with pytest.raises(Problem):
        keys.caller(bearer(first))


def test_a_key_that_is_revoked_in_the_moment_it_was_made_is_gone(path: Path) -> None:
    keys, key = Keys(path), create_key(path, ["operate"], "first")
    made = path.stat().st_mtime_ns
    assert frozenset({"operate"}) == keys.caller(bearer(key)).roles
    revoke_key(path, "first")
    os.utime(path, ns=(made, made))
    with pytest.raises(Problem, match="unknown API key"):
        keys.caller(bearer(key))


def test_a_key_of_the_same_name_replaces_the_old_one(path: Path) -> None:
    old = create_key(path, ["predict"], "shop")
    new = create_key(path, ["predict"], "shop")
    Keys(path).caller(bearer(new))
    with pytest.raises(Problem):
        Keys(path).caller(bearer(old))


def test_keys_made_at_the_same_time_are_all_kept(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: create_key(path, ["predict"], f"k{i}"), range(16)))
    keys = Keys(path)
    assert 16 == len([keys.caller(bearer(key)).roles for key in made])


@pytest.mark.parametrize("roles", [[], ["admin"]])
def test_roles_that_do_not_exist_are_refused(path: Path, roles: list[str]) -> None:
    with pytest.raises(ValueError, match="name some of events, metrics, operate, predict"):
        create_key(path, roles, "shop")  # pyright: ignore[reportArgumentType]


def test_a_damaged_file_is_named(path: Path) -> None:
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"keys\.json: not a file of API keys"):
        Keys(path).caller(bearer("hr_any"))


def test_a_missing_role_is_forbidden_by_name() -> None:
    with pytest.raises(Problem, match="'operate', this key has events, predict") as refused:
        demand({"predict", "events"}, "operate", "event_time")
    assert HTTPStatus.FORBIDDEN == refused.value.status
