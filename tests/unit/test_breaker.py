"""What opens a breaker, and what does not."""

import numpy as np
import pytest

from serving.breaker import CONSTANT, LAST, MOST, Breaker

IDS = np.array([[1], [2]])
DENSE = np.zeros((2, 1), np.float32)
SAME, VARIED = np.array([0.5, 0.5]), np.array([0.5, 0.6])


@pytest.fixture
def opened() -> list[str]:
    return []


@pytest.fixture
def breaker(opened: list[str]) -> Breaker:
    return Breaker(opened=lambda: opened.append("opened"))


def test_one_score_for_different_rows_opens_it_after_so_many_answers_in_a_row(
    breaker: Breaker, opened: list[str]
) -> None:
    for _ in range(CONSTANT - 1):
        breaker.answered(IDS, DENSE, SAME)
    breaker.answered(IDS, DENSE, VARIED)
    for _ in range(CONSTANT - 1):
        breaker.answered(IDS, DENSE, SAME)
        breaker.answered(IDS[:1], DENSE[:1], SAME[:1])
    assert (None, []) == (breaker.reason, opened)
    breaker.answered(IDS, DENSE, SAME)
    assert f"{CONSTANT} requests in a row with one score for different rows" == breaker.reason
    assert ["opened"] == opened


def test_rows_that_differ_in_a_number_alone_are_different_rows(breaker: Breaker) -> None:
    dense = np.array([[0.0], [1.0]], np.float32)
    for _ in range(CONSTANT):
        breaker.answered(np.ones((2, 1), np.int64), dense, SAME)
    assert breaker.reason is not None


def test_equal_rows_may_have_one_score_for_ever(breaker: Breaker) -> None:
    for _ in range(2 * CONSTANT):
        breaker.answered(np.ones((2, 1), np.int64), DENSE, SAME)
    assert breaker.reason is None


def test_late_answers_open_it_when_there_are_several_among_the_last(
    breaker: Breaker, opened: list[str]
) -> None:
    for _ in range(MOST - 1):
        breaker.failed("late", fatal=False)
    for _ in range(LAST):
        breaker.answered(IDS, DENSE, VARIED)
    for _ in range(MOST - 1):
        breaker.failed("late", fatal=False)
    assert breaker.reason is None, "those before the last calls are forgotten"
    breaker.failed("late", fatal=False)
    assert f"{MOST} of {LAST}: late" == breaker.reason
    breaker.failed("died", fatal=True)
    assert (f"{MOST} of {LAST}: late", ["opened"]) == (breaker.reason, opened)


def test_a_death_opens_it_at_once_and_it_stays_open(breaker: Breaker) -> None:
    breaker.failed("died", fatal=True)
    for _ in range(2 * LAST):
        breaker.answered(IDS, DENSE, VARIED)
    assert "died" == breaker.reason
