"""Orders that are drawn: their chances, their seeds, and what they tell of other orders."""

import math
from itertools import permutations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from data_contracts.exploration import (
    Exploration,
    drawn,
    followed,
    gumbel_noise,
    propensities,
    ranked,
    seed_of,
    utilities,
)
from data_contracts.off_policy import OffPolicyValue
from training.exploration import explored_values

ITEMS = [f"i{i}" for i in range(5)]
SCORES = np.array([0.02, 0.3, 0.11, 0.04, 0.07])
TWO = Exploration(slots=2, temperature=0.7)
WARM = Exploration(slots=2, temperature=1.5)


def naive(scores: list[float], first: tuple[int, ...], temperature: float) -> float:
    """The chance of a slate, slot by slot from the definition."""
    weights = [(score / (1 - score)) ** (1 / temperature) for score in scores]
    chance, left = 1.0, set(range(len(weights)))
    for row in first:
        chance *= weights[row] / sum(weights[i] for i in left)
        left.remove(row)
    return chance


def test_slates_are_told_with_the_chance_that_they_have_by_definition() -> None:
    for first in permutations(range(5), 2):
        found = propensities(utilities(SCORES), first, 0.7)
        assert naive(SCORES.tolist(), first, 0.7) == pytest.approx(math.prod(found), rel=1e-9)


def test_an_order_hangs_on_the_seed_and_the_items_alone() -> None:
    seed = seed_of("clicks", "r1")
    slate = drawn(TWO, utilities(SCORES), ITEMS, seed)
    assert slate == drawn(TWO, utilities(SCORES), ITEMS, seed_of("clicks", "r1"))
    turned = drawn(TWO, utilities(SCORES[::-1]), ITEMS[::-1], seed)
    assert [ITEMS[i] for i in slate.order] == [ITEMS[::-1][i] for i in turned.order]
    assert np.array_equal(gumbel_noise(seed, ITEMS)[:3], gumbel_noise(seed, ITEMS[:3]))
    orders = {tuple(drawn(TWO, utilities(SCORES), ITEMS, f"{i}").order) for i in range(60)}
    assert len(orders) > 5


def test_below_the_explored_slots_rows_stand_by_score_and_equals_by_item() -> None:
    level = np.array([0.5, 0.1, 0.1, 0.1, 0.9])
    names = ["b", "z", "a", "k", "c"]
    assert [4, 0, 2, 3, 1] == ranked(utilities(level), names)
    for i in range(40):
        slate = drawn(TWO, utilities(level), names, f"{i}")
        left = [row for row in (4, 0, 2, 3, 1) if row not in slate.order[:2]]
        assert left == slate.order[2:]
        assert 2 == len(slate.propensities)


def test_rows_of_one_item_have_noise_of_their_own() -> None:
    same = gumbel_noise("seed", ["i1", "i1", "i2"])
    assert 3 == len(set(same.tolist()))


def test_fewer_rows_than_slots_and_certain_scores_are_ordered_too() -> None:
    slate = drawn(Exploration(5, 1.0), utilities(np.array([0.0, 1.0])), ["a", "b"], "s")
    assert [1, 0] == slate.order
    assert 1.0 == pytest.approx(slate.propensity)
    nothing = drawn(TWO, utilities(np.zeros(0)), [], "s")
    assert ([], 1.0) == (nothing.order, nothing.propensity)


def test_who_follows_the_scores_shows_one_slate_alone() -> None:
    utility = utilities(SCORES)
    assert [1.0, 1.0] == followed(utility, ITEMS, [1, 2])
    assert [0.0, 1.0] == followed(utility, ITEMS, [2, 1])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Exploration(0, 1.0), "0 slots: take 1 to 5"),
        (Exploration(6, 1.0), "6 slots: take 1 to 5"),
        (Exploration(3, 0.0), "temperature 0.0"),
        (Exploration(3, float("nan")), "temperature nan"),
    ],
)
def test_an_exploration_that_cannot_be_is_refused(wrong: Exploration, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        wrong.check()


def explored(requests: int, clicked: np.ndarray, other: np.ndarray) -> pa.Table:
    """A log of slates of two, whose items are clicked with these chances, wherever they stand; a
    tenth of the second slots was not seen."""
    rng = np.random.default_rng(5)
    rows: list[dict[str, object]] = []
    for number in range(requests):
        slate = drawn(WARM, utilities(SCORES), ITEMS, seed_of("clicks", f"r{number}"))
        seen = 2 - (rng.random() < 0.1)
        for rank, row in enumerate(slate.order, 1):
            explored, label = rank <= 2, int(rng.random() < clicked[row])
            rows.append(
                {
                    "request_id": f"r{number}", "version": "1", "item_id": ITEMS[row],
                    "user_id": f"u{number % 5}" if number % 7 else None,
                    "rank": rank, "temperature": WARM.temperature, "score": SCORES[row],
                    "boost": 0.0,
                    "slot_propensity": slate.propensities[rank - 1] if explored else None,
                    "slate_propensity": slate.propensity,
                    "label": label if rank <= seen else None,
                    "shadow_version": "2", "shadow_score": other[row],
                }
            )  # fmt: skip
    rng.shuffle(rows)  # type: ignore[arg-type]
    return pa.Table.from_pylist(rows)


def test_the_log_of_drawn_slates_tells_what_other_orders_are_worth() -> None:
    clicked, other = np.array([0.5, 0.2, 0.3, 0.1, 0.1]), np.array([0.06, 0.2, 0.2, 0.05, 0.05])
    found = explored_values(explored(3000, clicked, other), ["item_id"], 0.999)
    assert {"drawn", "by score", "version 2"} == set(found)

    def within(value: OffPolicyValue, first: float, second: float) -> bool:
        low, high = value.ips.low, value.ips.high
        return low < first + 0.9 * second < high and value.verdict == "can judge"

    def expected(scores: np.ndarray) -> tuple[float, float]:
        chance = {p: naive(scores.tolist(), p, 1.5) for p in permutations(range(5), 2)}
        parts = [sum(chance[p] * clicked[p[slot]] for p in chance) for slot in (0, 1)]
        return parts[0], parts[1]

    assert within(found["drawn"], *expected(SCORES))
    assert within(found["version 2"], *expected(other))
    assert within(found["by score"], clicked[1], clicked[2])
    assert not within(found["drawn"], clicked[1], clicked[2])


def test_two_calls_by_one_request_id_are_two_draws_and_no_slate() -> None:
    log = explored(400, SCORES, SCORES)
    expected = explored_values(log, ["item_id"], 0.95)
    twice = log.filter(pc.equal(log["request_id"], log["request_id"][0])).to_pylist()
    other = [{**row, "item_id": f"{row['item_id']}-2", "rank": row["rank"] + len(twice),
              "slate_propensity": 0.5} for row in twice]  # fmt: skip
    for second in (other, [{**row, "rank": row["rank"] - len(twice)} for row in other]):
        both = pa.concat_tables([log, pa.Table.from_pylist(second, schema=log.schema)])
        without = log.filter(pc.not_equal(log["request_id"], log["request_id"][0]))
        assert explored_values(both, ["item_id"], 0.95) == explored_values(
            without, ["item_id"], 0.95
        )
    assert expected != explored_values(without, ["item_id"], 0.95)


def test_slates_of_few_users_tell_nothing_of_other_orders() -> None:
    log = explored(1500, SCORES, SCORES)
    known = log.filter(pc.is_valid(log["user_id"]))
    found = explored_values(known, ["item_id"], 0.95, "user_id")
    for value in found.values():
        assert "effective users, needs 20" in str(value.doubt)
    # A slate whose user is not known counts as one of its own.
    more = explored_values(log, ["item_id"], 0.95, "user_id")["drawn"]
    assert found["drawn"].effective_users < 5 < 6 < more.effective_users
