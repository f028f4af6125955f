"""What drawn slates tell of a version that answered none of them."""

import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_contracts.bundle import BundleRefused, Manifest
from data_contracts.clock import SECOND, parse_time
from data_contracts.evidence import Estimate
from data_contracts.exploration import Exploration, drawn, seed_of, utilities
from data_contracts.off_policy import OffPolicyValue
from data_contracts.views import joint_digest
from tests.unit.test_exploration import ITEMS, SCORES, naive
from training.exploration import unserved_value
from training.logged_scores import with_scores

FITTED = parse_time("2019-11-26T12:00:00Z")
DIGESTS = {"liked": "of liked"}
MANIFEST = Manifest(
    format=4, use_case="clicks", model="linear", features=("liked",),
    categorical=(("item_id", 50),), numeric=(("price", 0.0),), feature_digests=DIGESTS,
    contract_version="1", contract_digest="c", golden_rows=1, fitted_until=FITTED, metrics={},
    members={},
)  # fmt: skip
DRAWN = Exploration(slots=2, temperature=1.5)
CLICKED = np.array([0.5, 0.1, 0.3, 0.2, 0.1])
"""Of each item in the first slot; of the second it is 0.8 of that."""
LIKED = np.array([-2.4, -1.8, -1.6, -2.7, -2.7])
"""The version's log-odds: nearer to what is clicked than `SCORES` are."""


class Linear:
    """A version whose log-odds are what it is given."""

    def score(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        return (1 / (1 + np.exp(-dense.sum(axis=1)))).astype(np.float32)


def logged(
    seed: int, requests: int = 700, clicked: np.ndarray = CLICKED, at: int = FITTED + SECOND
) -> list[dict[str, Any]]:
    """Slates of two, drawn by `SCORES` from `at` on, of a fifth as many users; of a tenth the
    second slot was not seen."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(requests):
        name = f"{seed}-{at}-{number}"
        slate = drawn(DRAWN, utilities(SCORES), ITEMS, seed_of("clicks", name))
        seen = 2 - (rng.random() < 0.1)
        user = f"u{rng.integers(1 + requests // 5)}"
        for rank, row in enumerate(slate.order, 1):
            hit = int(rng.random() < clicked[row] * 0.8 ** (rank - 1))
            # Half of what the version likes is a feature, half a field of the request.
            half = float(LIKED[row] / 2)
            rows.append(
                {
                    "request_id": name, "version": "1", "item_id": ITEMS[row], "user_id": user,
                    "rank": rank, "temperature": 1.5, "score": SCORES[row], "boost": 0.0,
                    "slot_propensity": slate.propensities[rank - 1] if rank <= 2 else None,
                    "slate_propensity": slate.propensity, "label": hit if rank <= seen else None,
                    "q": at + number, "label_q": at + number if rank <= seen else None,
                    "definitions": joint_digest(DIGESTS), "features": [half],
                    "inputs": json.dumps({"item_id": ITEMS[row], "price": half}),
                }
            )  # fmt: skip
    return rows


def valued(
    rows: list[dict[str, Any]], manifest: Manifest = MANIFEST
) -> tuple[OffPolicyValue, dict[str, int]]:
    table = pa.Table.from_pylist(rows)
    for name in ("q", "label_q"):
        times = table[name].cast(pa.timestamp("us", "UTC"))
        table = table.set_column(table.column_names.index(name), name, times)
    scored = with_scores(table, manifest, Linear())
    return unserved_value(scored, ["item_id"], 0.95, "user_id")


def worth(scores: np.ndarray) -> float:
    """The true mean of the clicks of a slate that is drawn by these scores."""
    chance = {p: naive(scores.tolist(), p, 1.5) for p in permutations(range(5), 2)}
    return sum(p * (CLICKED[a] + 0.9 * 0.8 * CLICKED[b]) for (a, b), p in chance.items())


def holds(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def test_intervals_hold_what_a_version_would_have_been_worth_and_how_far_it_is_above_the_log() -> (
    None
):
    own, log = worth(1 / (1 + np.exp(-LIKED))), worth(SCORES)
    worlds = [valued(logged(seed))[0] for seed in range(40)]
    assert 36 <= sum(value.verdict == "can judge" for value in worlds)
    for figure, truth in (("ips", own), ("snips", own), ("logged", log), ("gain", own - log)):
        held = sum(holds(getattr(value, figure), truth) for value in worlds)
        # Fewer are had by chance once in a thousand times.
        assert held >= 33, figure
    # Paired, the difference is told apart from nothing; each on its own is less sure.
    for value in worlds:
        assert value.gain is not None and value.gain.low > 0
        assert value.gain.high - value.gain.low < 0.8 * (value.snips.high - value.snips.low)


def test_slates_of_the_time_of_its_fit_tell_nothing_of_a_version() -> None:
    """What it was fitted on would flip the verdict: there nobody clicked what it likes less."""
    flattering = np.array([0.9, 0.0, 0.0, 0.0, 0.0])
    worse = np.array([0.1, 0.5, 0.1, 0.1, 0.3])
    after = logged(1, 1500, worse)
    fitted_on = logged(2, 1500, flattering, at=FITTED - 1499)
    # Asked after it by a clock that is ahead, but of label rows that it was fitted on.
    ahead = [row | {"label_q": FITTED} for row in logged(3, 500, flattering)]
    every = [*after, *fitted_on, *ahead]
    gain = valued(every, replace(MANIFEST, fitted_until=0))[0].gain
    assert gain is not None and gain.low > 0
    found, left_out = valued(every)
    assert found.gain is not None and found.gain.high < 0
    assert {"of the rows it was fitted on, up to 2019-11-26T12:00:00.000000Z": 2000} == left_out
    assert (found, {}) == valued(after)


def test_what_cannot_be_scored_is_left_out_by_its_reason() -> None:
    other = [row | {"definitions": "other"} for row in logged(1, 20)]
    forgotten = [row | {"features": None} for row in logged(2, 30)]
    before = [row | {"inputs": None} for row in logged(3, 40)]
    bare = [row | {"inputs": json.dumps({"item_id": "i1"})} for row in logged(4, 50)]
    slates = logged(5, 300)
    found, left_out = valued([*other, *forgotten, *before, *bare, *slates])
    expected = {"served under other definitions": 50, "logged without inputs": 40,
                "logged without price": 50}  # fmt: skip
    assert (expected, 300) == (left_out, found.snips.n)
    none, _ = valued([*other, *bare])
    assert "cannot judge" == none.verdict
    said = "20 served under other definitions, 50 logged without price"
    assert f"no slate is left: {said}" == none.doubt
    assert None is none.as_dict()["gain"]["value"]


def test_a_version_whose_slates_were_hardly_ever_drawn_cannot_be_judged() -> None:
    far = [row | {"features": [-12.0 * (row["item_id"] != "i3")]} for row in logged(1, 1000)]
    found, _ = valued(far)
    assert "cannot judge" == found.verdict
    assert "effective rows of" in str(found.doubt)


def test_a_graph_that_gives_no_probability_is_refused() -> None:
    class Broken(Linear):
        def score(self, ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
            return np.full(len(ids), np.nan, np.float32)

    table = pa.Table.from_pylist(logged(1, 1))
    with pytest.raises(BundleRefused, match="linear: its graph gives a score that is no prob"):
        with_scores(table, MANIFEST, Broken())
