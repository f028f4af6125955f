"""Sessions of the release page, presented as anybody may present them."""

from pathlib import Path

import pytest

from data_contracts.clock import HOUR, ReplayClock
from serving.problem import Problem
from serving.sessions import COOKIE, CSRF, HOURS, Sessions


@pytest.fixture
def clock() -> ReplayClock:
    return ReplayClock()


@pytest.fixture
def sessions(tmp_path: Path, clock: ReplayClock) -> Sessions:
    return Sessions(tmp_path / "secret", clock)


def begun(sessions: Sessions) -> dict[str, str]:
    return {"cookie": sessions.begin(secure=True).partition(";")[0]}


def test_a_session_holds_until_its_end_and_no_longer(
    sessions: Sessions, clock: ReplayClock
) -> None:
    cookie = begun(sessions)
    clock.advance(HOURS * HOUR - 1)
    assert sessions.held(cookie)
    clock.advance(HOURS * HOUR)
    assert sessions.held(cookie) is None


@pytest.mark.parametrize(
    "cookie",
    ["", "=", COOKIE, f"{COOKIE}=a.b", f'{COOKIE}="a.\xe9"', f'{COOKIE}="a.\\351"', "\xe9=\xe9"],
)
def test_a_cookie_of_nonsense_is_no_session(sessions: Sessions, cookie: str) -> None:
    assert sessions.held({"cookie": cookie}) is None


def test_a_cookie_that_was_changed_is_no_session(sessions: Sessions) -> None:
    cookie = begun(sessions)["cookie"]
    assert sessions.held({"cookie": cookie.replace("=", "=9", 1)}) is None
    assert sessions.held({"cookie": cookie[:-1] + ("0" if cookie[-1] != "0" else "1")}) is None


def test_what_changes_something_needs_the_token_of_its_session(sessions: Sessions) -> None:
    first, second = (sessions.held(begun(sessions)) for _ in range(2))
    assert first and second
    sessions.check(first, {CSRF: sessions.token(first)})
    for presented in (None, "\xe9", sessions.token(second)):
        with pytest.raises(Problem, match="of another session"):
            sessions.check(first, {} if presented is None else {CSRF: presented})
