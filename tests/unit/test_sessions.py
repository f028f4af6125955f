"""Sessions of the release page, presented as anybody may present them."""

from pathlib import Path

import pytest

from data_contracts.clock import HOUR, ReplayClock
from serving.problem import Problem
from serving.sessions import CSRF, HOURS, Sessions

KEY = "0" * 64


@pytest.fixture
def clock() -> ReplayClock:
    return ReplayClock()


@pytest.fixture
def sessions(tmp_path: Path, clock: ReplayClock) -> Sessions:
    return Sessions(tmp_path / "secret", "clicks", clock)


def begun(sessions: Sessions) -> dict[str, str]:
    return {"cookie": sessions.begin(KEY, secure=True).partition(";")[0]}


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
    ["", "=", "{}", "{}=a.b", '{}="a.\xe9"', '{}="a.\\351"', "{}=1.a.b.c", "\xe9=\xe9"],
)
def test_a_cookie_of_nonsense_is_no_session(sessions: Sessions, cookie: str) -> None:
    assert sessions.held({"cookie": cookie.format(sessions.cookie)}) is None


def test_a_session_says_whose_key_it_was_begun_with(sessions: Sessions) -> None:
    session = sessions.held(begun(sessions))
    assert session is not None and KEY == session.key


def test_sessions_of_other_roots_and_use_cases_are_held_beside_each_other(
    tmp_path: Path, clock: ReplayClock
) -> None:
    named = [("a", "clicks"), ("a", "fraud"), ("b", "clicks")]
    every = [Sessions(tmp_path / root, use_case, clock) for root, use_case in named]
    assert 3 == len({sessions.cookie for sessions in every})
    together = {"cookie": "; ".join(begun(sessions)["cookie"] for sessions in every)}
    assert all(sessions.held(together) for sessions in every)
    foreign = begun(every[0])["cookie"].replace(every[0].cookie, every[2].cookie)
    assert every[2].held({"cookie": foreign}) is None


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
