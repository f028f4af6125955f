"""Which units a release's steps gave the candidate, and how many of them it should have had."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.rollout import BUCKETS, STEPS, bucket
from data_contracts.sequences import Split
from data_contracts.splits import splits

Seen = list[tuple[str, int, bool]]


def split(seen: Seen) -> tuple[Split, ...]:
    units, shares, theirs = (np.array(column) for column in zip(*seen, strict=True))
    return splits(units, shares, theirs)


def one_by_one(seen: Seen) -> tuple[Split, ...]:
    """The same, a unit at a time."""
    counts: dict[tuple[int, int], list[int]] = {}
    for unit in {unit for unit, _, _ in seen}:
        left, shares = 0, {bps for name, bps, _ in seen if name == unit}
        for bps in sorted(shares):
            theirs = (unit, bps, False) not in seen
            count = counts.setdefault((left, bps), [0, 0])
            count[0] += theirs
            count[1] += 1
            if theirs:
                break
            left = bps
    return tuple(
        Split((bps - left) / (BUCKETS - left), *count)
        for (left, bps), count in sorted(counts.items())
    )


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(STEPS), st.booleans()),
        min_size=1,
        max_size=30,
    )
)
def test_units_fall_at_once_as_they_do_one_by_one(seen: Seen) -> None:
    assert one_by_one(seen) == split(seen)


def test_a_unit_counts_once_per_share_until_it_is_the_candidates() -> None:
    seen = [("a", 100, False), ("a", 100, False), ("a", 500, False), ("b", 100, True)]
    seen += [("b", 500, True), ("c", 500, True)]
    expected = (Split(0.01, 1, 2), Split(0.05, 1, 1), Split(400 / 9_900, 0, 1))
    assert sorted(expected, key=str) == sorted(split(seen), key=str)


def test_splits_of_hashed_units_fit_the_plan() -> None:
    rng, rows = np.random.default_rng(5), []
    for bps in STEPS:
        for unit in rng.integers(0, 20_000, 30_000):
            rows.append((f"u{unit}", bps, bucket("clicks\x1f2", f"u{unit}") < bps))
    for each in split(rows):
        deviation = (each.units * each.share * (1 - each.share)) ** 0.5
        assert abs(each.candidate - each.units * each.share) < 4.5 * deviation
