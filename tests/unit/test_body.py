"""What a body costs that nobody has shown a key for."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from serving.body import _unique, validate
from serving.problem import TOLD, Problem

MANY = 1_000


class Name(str):
    """A name that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_a_name_that_stands_twice_is_found_in_a_time_that_grows_like_the_body() -> None:
    pairs: list[tuple[str, Any]] = [(Name(i), i) for i in range(MANY)]
    pairs.append((Name(MANY - 1), 0))
    with pytest.raises(ValueError, match=rf"^'{MANY - 1}' stands twice$"):
        _unique(pairs)
    assert Name.compared < MANY


def test_of_a_long_name_that_stands_twice_its_beginning_is_shown() -> None:
    with pytest.raises(ValueError, match=rf"^'{'n' * 64}' stands twice$"):
        _unique([("n" * 10**6, 1), ("n" * 10**6, 2)])


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid")


def test_an_answer_that_names_what_is_wrong_is_no_longer_than_what_was_asked() -> None:
    wrong = {f"n{i}": 0 for i in range(20_000)}
    with pytest.raises(Problem, match=r"^n0: Extra inputs .*; n4: .* and 19995 more$") as refused:
        validate(Row, wrong)
    assert [f"n{i}" for i in range(TOLD)] == [each["field"] for each in refused.value.errors]
    with pytest.raises(Problem) as refused:
        validate(Row, {"n" * 10**6: 0})
    assert len(refused.value.response("/v1/predict").body) < 1_000
