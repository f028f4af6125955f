"""Drift is reason to retrain when k of n windows say so, and not twice within the cooldown."""

import pytest

from data_contracts.clock import DAY, HOUR
from data_contracts.retrain import drift_alarm
from data_contracts.use_case import Retrain

POLICY = Retrain(drift_share=0.5, windows=3, alarms=2, cooldown="1d")


@pytest.mark.parametrize(
    ("shares", "alarmed"),
    [
        ([], False),
        ([0.9], False),
        ([0.9, 0.1, 0.1], False),
        ([0.9, 0.1, 0.5], True),
        ([0.9, 0.9, 0.1, 0.1], False),
        ([0.1, 0.9, 0.9, 0.1], True),
    ],
)
def test_two_of_the_last_three_windows_must_have_drifted(shares: list[float], alarmed: bool):
    assert alarmed == (drift_alarm(POLICY, shares, now=0, last_retrain=None) is not None)


def test_within_the_cooldown_nothing_is_an_alarm():
    shares = [0.9, 0.9, 0.9]
    assert drift_alarm(POLICY, shares, now=23 * HOUR, last_retrain=0) is None
    assert drift_alarm(POLICY, shares, now=DAY, last_retrain=0) is not None


def test_the_reason_names_the_windows():
    reason = drift_alarm(POLICY, [0.1, 0.6, 0.7], now=0, last_retrain=None)
    assert reason == "2 of the last 3 windows have at least 50% of their inputs drifted"
