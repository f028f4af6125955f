import csv

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_contracts.off_policy import off_policy_value
from data_contracts.use_case import load_use_case


def test_bernoulli_ts_from_the_random_log_has_its_published_value() -> None:
    use_case = load_use_case("clicks")
    declared = use_case.declared.off_policy
    assert declared is not None
    assert use_case.log is not None
    with (use_case.folder / declared.action_distribution).open() as lines:
        probability = {
            (int(row["item_id"]), int(row["position"])): float(row["probability"])
            for row in csv.DictReader(lines)
        }
    log = pq.read_table(use_case.log).to_pylist()
    logged = [row for row in log if row["policy"] == declared.logged]
    on_policy = [row["click"] for row in log if row["policy"] == declared.target]
    value = off_policy_value(
        np.array([row["click"] for row in logged], float),
        np.array([row["propensity"] for row in logged]),
        np.array([probability[row["item_id"], row["position"]] for row in logged]),
    )
    assert round(value.ips.value, 6) == 0.004553
    assert np.mean(on_policy) == 0.0042
    assert value.ips.low < 0.0042 < value.ips.high
    assert value.snips.low < value.snips.value < value.snips.high
    assert 0 < value.effective_sample_size < value.ips.n == 10_000


def test_the_logging_policy_has_the_value_it_had() -> None:
    rewards = np.array([1.0, 0.0, 0.0, 1.0])
    logged = np.array([0.5, 0.1, 0.9, 0.3])
    value = off_policy_value(rewards, logged, logged)
    assert (value.ips.value, value.snips.value) == (0.5, 0.5)
    assert value.effective_sample_size == 4
    assert value.max_weight == 1


def test_a_policy_that_never_does_what_was_logged_has_no_normalised_value() -> None:
    value = off_policy_value(np.ones(3), np.full(3, 0.5), np.zeros(3))
    assert value.ips.value == 0
    assert np.isnan(value.snips.value)
    assert value.effective_sample_size == 0


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5, float("nan")])
def test_a_propensity_that_is_none_is_refused(propensity: float) -> None:
    with pytest.raises(ValueError, match="propensity in"):
        off_policy_value(np.ones(2), np.array([0.5, propensity]), np.ones(2))


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="needs rows"):
        off_policy_value(np.array([]), np.array([]), np.array([]))
