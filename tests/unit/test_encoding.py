import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.clock import DAY, HOUR
from data_contracts.encoding import (
    HOUR_OF_DAY,
    MISSING,
    Categorical,
    Numeric,
    bucket,
    encode_dense,
    encode_ids,
)


@given(st.text(), st.text(), st.integers(2, 2**40))
def test_an_id_lies_in_1_to_buckets_and_never_stands_for_null(
    field: str, value: str, buckets: int
) -> None:
    assert MISSING < bucket(field, value, buckets) < buckets


def test_an_id_is_the_same_in_every_process_and_version() -> None:
    program = "from data_contracts.encoding import bucket; print(bucket('user_id', 'käthe', 512))"
    told = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program], capture_output=True, text=True, check=True
    )
    assert [int(told.stdout), 166] == [bucket("user_id", "käthe", 512)] * 2


def test_the_same_value_in_two_fields_has_two_ids() -> None:
    assert bucket("user_id", "1", 2**40) != bucket("item_id", "1", 2**40)


def test_null_and_absent_fields_are_the_missing_id() -> None:
    ids = encode_ids([Categorical("user_id", 9)], [{"user_id": None}, {}, {"user_id": ""}], [0] * 3)
    assert [MISSING, MISSING] == ids[:2, 0].tolist()
    assert MISSING != ids[2, 0]


def test_the_hour_of_day_comes_from_the_query_time_also_before_the_epoch() -> None:
    q = [0, HOUR - 1, HOUR, DAY - 1, DAY, -1]
    ids = encode_ids([Categorical(HOUR_OF_DAY, 25)], [{}] * 6, q)
    assert [1, 1, 2, 24, 1, 24] == ids[:, 0].tolist()


def test_ids_are_int64_and_dense_is_float32_also_without_rows_or_columns() -> None:
    ids, dense = encode_ids([], [], []), encode_dense([], [], np.empty((0, 3)))
    assert ((0, 0), np.int64) == (ids.shape, ids.dtype)
    assert ((0, 3), np.float32) == (dense.shape, dense.dtype)


def test_dense_holds_features_then_fields_with_their_defaults() -> None:
    numeric = [Numeric("position", 2.0), Numeric("affinity", -1.0)]
    rows = [{"position": 5, "affinity": None}, {"affinity": 0.5}]
    dense = encode_dense(numeric, rows, np.array([[0.25, 1.0], [0.75, 3.0]]))
    assert [[0.25, 1.0, 5.0, -1.0], [0.75, 3.0, 2.0, 0.5]] == dense.tolist()
