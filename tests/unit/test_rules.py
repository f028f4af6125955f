"""Rules of a use case: what they drop and move, and what becomes of one that is wrong."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from data_contracts.rules import MOST_BOOST, Boost, Keep, boosted, sifted

Row = Mapping[str, Any]
ROWS: list[dict[str, Any]] = [{"item_id": f"i{i}", "price": 10 * i} for i in range(4)]


def cheap(row: Row, q: int) -> bool:
    return row["price"] <= q


def odd(row: Row, q: int) -> bool:
    return row["item_id"] in ("i1", "i3")


def changing(row: Row, q: int) -> bool:
    row["price"] = 0  # type: ignore[index]
    return True


def forgetful(row: Row, q: int) -> bool:
    if row["price"] > 10:
        return False
    return None  # type: ignore[return-value]


def test_the_first_rule_that_says_no_drops_a_candidate() -> None:
    found = sifted({"cheap": cheap, "odd": odd}, ROWS, 20)
    assert ([1], {3: "cheap", 0: "odd", 2: "odd"}, {}) == (found.kept, found.dropped, found.failed)
    assert [0, 1, 2, 3] == sifted({}, ROWS, 20).kept


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (changing, "TypeError: 'mappingproxy' object does not support item assignment"),
        (forgetful, "TypeError: None is neither True nor False"),
        (lambda row, q: 1 // 0, "ZeroDivisionError"),
    ],
)
def test_a_rule_that_is_wrong_drops_nothing_and_the_others_do(wrong: Keep, said: str) -> None:
    found = sifted({"cheap": cheap, "wrong": wrong, "odd": odd}, ROWS, 20)
    assert [1] == found.kept
    assert {"cheap", "odd"} == set(found.dropped.values())
    assert found.failed["wrong"].startswith(said)
    assert 0 == ROWS[0]["price"] and 30 == ROWS[3]["price"]


def by_price(rows: Sequence[Row], scores: Sequence[float], q: int) -> list[float]:
    return [row["price"] / q - score for row, score in zip(rows, scores, strict=True)]


def pinned(rows: Sequence[Row], scores: Sequence[float], q: int) -> list[float]:
    return [MOST_BOOST, 0.0, 0.0, -MOST_BOOST]


def short(rows: Sequence[Row], scores: Sequence[float], q: int) -> list[float]:
    return [1.0]


def endless(rows: Sequence[Row], scores: Sequence[float], q: int) -> Iterable[float]:
    return np.full(len(rows), np.inf)


def test_boosts_add_up_within_their_bound() -> None:
    total, failed = boosted({"by price": by_price, "pinned": pinned}, ROWS, [0.5] * 4, 10)
    assert ([999.5, 0.5, 1.5, -997.5], {}) == (total.tolist(), failed)
    total, _ = boosted({"one": pinned, "two": pinned}, ROWS, [0.5] * 4, 10)
    assert [MOST_BOOST, 0.0, 0.0, -MOST_BOOST] == total.tolist()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(short, "1 boosts for 4 rows"), (endless, "a boost of inf: at most 1000 log-odds")],
)
def test_a_boost_that_is_wrong_moves_nothing(wrong: Boost, said: str) -> None:
    total, failed = boosted({"wrong": wrong, "by price": by_price}, ROWS, [0.0] * 4, 10)
    assert [0.0, 1.0, 2.0, 3.0] == total.tolist()
    assert said in failed["wrong"]
