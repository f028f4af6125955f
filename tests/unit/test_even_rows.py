from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from training.batches import evenly


@example(rows=64, most=64)
@example(rows=65, most=64)
@given(rows=st.integers(1, 60_000), most=st.integers(1, 11_000))
def test_rows_are_taken_once_each_from_the_first_to_the_last_at_even_distances(
    rows: int, most: int
) -> None:
    at = evenly(rows, most)
    assert min(rows, most) == len(at) == len(np.unique(at))
    assert np.array_equal(np.sort(at), at)
    if len(at) > 1:
        step = Fraction(rows - 1, len(at) - 1)
        assert (0, rows - 1) == (at[0], at[-1])
        assert all(abs(row - place * step) <= 1 for place, row in enumerate(at[:500].tolist()))
